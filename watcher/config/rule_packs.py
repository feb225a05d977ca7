"""Rule packs: what good looks like, as YAML that services share. Finds them, loads them and describes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from watcher.config.quantities import duration_text
from watcher.config.rule_pack_file import RulePackFile
from watcher.config.strict_yaml import closest, read
from watcher.errors import ConfigError
from watcher.model import Kind, Rule


@dataclass(frozen=True)
class RulePack:
    """A rule pack that was read."""

    name: str
    path: Path
    rules: tuple[Rule, ...]


def load_pack(path: str | Path) -> RulePack:
    """Read a rule pack.

    Raises:
        ConfigError: what is wrong, with file, line and key.
    """
    pack = read(path).validate(RulePackFile)
    return RulePack(pack.pack, Path(path), tuple(rule.rule(pack) for rule in pack.rules))


def load_rules(path: str | Path) -> tuple[Rule, ...]:
    """Read the rules of a pack, with its `by` and `unit` filled in; errors as `load_pack`."""
    return load_pack(path).rules


def _shipped() -> Path:
    """Return the folder of the packs that come with watcher: in the wheel, or next to the package in a checkout."""
    package = Path(str(files("watcher")))
    return package / "rules" if (package / "rules").is_dir() else package.parent / "rules"


def rule_pack_path(name: str | Path, relative_to: str | Path) -> Path:
    """Find a rule pack: a path relative to the folder of the file that names it, or one that ships with watcher.

    Args:
        name: a path, or the name of a shipped pack (`checkout`, `rules/checkout.yaml`).
        relative_to: the folder of the file that names the pack.

    Raises:
        ConfigError: there is none; says where it was looked for, and what ships.
    """
    # Symbolic links stay: a mounted configuration replaces their targets.
    own = Path(os.path.abspath(Path(relative_to) / name))
    if own.is_file():
        return own
    ships = {path.stem: path for path in sorted(_shipped().glob("*.yaml"))}
    stem = str(name).removeprefix("rules/").removesuffix(".yaml")
    if stem in ships:
        return ships[stem]
    raise ConfigError(
        f"there is no rule pack {name}: not at {own}, and what ships is {', '.join(ships) or 'nothing'}"
        + closest(stem, ships)
    )


def check_rules(path: str | Path) -> list[str]:
    """Describe a rule pack in lines for people: `watcher rules check`; errors as `load_pack`."""
    pack = load_pack(path)
    count = f"{len(pack.rules)} rule{'' if len(pack.rules) == 1 else 's'}"
    return [f"{path}: pack {pack.name}, {count}", *(describe(rule) for rule in pack.rules)]


def describe(rule: Rule) -> str:
    """Describe a rule in one line: what is counted, which way is worse, what is tolerated, per what."""
    counted = {
        Kind.RATIO: f"{rule.events} of {rule.total}",
        Kind.RATE: f"{rule.events} per {rule.total}",
        Kind.LATENCY: f"requests of {rule.events} over {duration_text(rule.objective or 0.0)}",
        Kind.GAUGE: f"{rule.across} of {rule.events}",
    }[rule.kind]
    size = f"{rule.margin * 100:.6g} " + ("percentage points" if rule.absolute else "%")
    said = [f"{rule.name} ({rule.kind}): {counted}", f"{rule.worse} is worse", f"margin {size}"]
    said += [f"regressed only beyond {rule.regress_margin * 100:.6g} %"] if rule.regress_margin else []
    said += [f"matures in {duration_text(rule.matures)}"] if rule.matures else []
    said += [f"measured in {rule.measured_in}"] if rule.measured_in else []
    said += [f"a stream per {', '.join(rule.by)}"] if rule.by else []
    said += [f"unit {rule.unit}"] if rule.unit else []
    said += [f"new values of {rule.signature} stand out"] if rule.signature else []
    said += [f"weight {rule.weight:g}"] if rule.weight != 1 else []
    return "; ".join(said + ["critical"] * rule.critical + ["optional"] * (not rule.required))

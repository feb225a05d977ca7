"""From a noticed release to its watch: everything that is fixed before the first look."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from watcher.config.installation import Installation, ReleaseEntry, Service
from watcher.config.release_file import PLACEHOLDERS
from watcher.errors import ConfigError
from watcher.model import Labels, Release, Split, Watch

log = logging.getLogger("watcher")

Fill = Callable[[str, str], str]
"""Puts values where placeholders stand, given what is written and the key it stands at."""

_PLACEHOLDER = re.compile("|".join(rf"\{{{name}\}}" for name in PLACEHOLDERS))
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
"""What means the same inside of a path, a name, JSON or anything else that a longer argument may be."""


def filled_key(installation: Installation, entry: ReleaseEntry, release: Release) -> str | None:
    """Return the key of the kill switch of a release, its values where placeholders stand.

    Raises:
        ConfigError: the switch needs something that the release does not have, such as {previous}.
    """
    return _Filling(installation, entry, release).switch()


def filled_split(installation: Installation, entry: ReleaseEntry, release: Release) -> Split | None:
    """Return the traffic split of a release, its counter narrowed to it; None where none is asked for.

    Raises:
        ConfigError: the counter needs something that the release does not have, such as {previous}.
    """
    return _Filling(installation, entry, release).split()


def plan(
    installation: Installation,
    service: Service,
    entry: ReleaseEntry,
    release: Release,
    excluded: tuple[tuple[float, float], ...] = (),
) -> Watch:
    """Return the watch of a release: everything that is fixed before the first look.

    `excluded` are stretches of the past that are not usual, beside those the service names. A traffic split that cannot
    be checked, because nobody knows what it should be, is logged.

    Raises:
        ConfigError: the entry needs something that the release does not have, such as {previous}.
    """
    fill = _Filling(installation, entry, release)
    baseline, treatment = fill.arm("baseline", entry.baseline), fill.arm("treatment", entry.treatment)
    if baseline is not None and baseline == treatment:
        raise fill.error(f"both arms are {dict(baseline)}: there is nothing to compare", "arms")
    if entry.share is not None:
        stages = (replace(each, share=entry.share) if each.share is None else each for each in release.stages)
        release = replace(release, stages=tuple(stages))
    unchecked = _unchecked(entry.split, release)
    if unchecked is not None:
        log.warning("%s", fill.error(unchecked, "split.share"))
    return Watch(
        release=release,
        rules=service.rules,
        select=service.select,
        baseline=baseline,
        treatment=treatment,
        block=installation.block,
        settle=installation.settle,
        warm_up=service.warm_up,
        horizon=service.watch_for,
        history=entry.history,
        alpha=installation.alpha,
        focus=fill.pairs(entry.focus, "focus"),
        split=fill.split(),
        mode=service.mode,
        switch=fill.switch(),
        promote=entry.promote,
        links=service.links,
        tell=service.tell,
        zone=service.zone,
        excluded=(*service.unusual, *excluded),
    )


def _unchecked(split: Split | None, release: Release) -> str | None:
    """Return why the split of a release is not checked, where one is asked for and nobody knows what it should be."""
    if split is None or split.share == "switch" or release.stages[0].share is not None:
        return None
    return (
        f"the traffic split of {release.id} is not checked: it was noticed without a share; "
        "write the configured share, such as 5%"
    )


@dataclass(frozen=True)
class _Filling:
    """Puts a release's values where placeholders stand. A value is never looked into: it may hold anything."""

    installation: Installation
    entry: ReleaseEntry
    release: Release

    def error(self, problem: str, key: str) -> ConfigError:
        dotted = ".".join(part for part in (self.entry.key, key) if part)
        return ConfigError(problem, file=str(self.installation.file), line=self.entry.line, key=dotted)

    def value(self, written: str, key: str) -> str:
        name = written[1:-1]
        if written != f"{{{name}}}" or name not in PLACEHOLDERS:
            return written
        known: str | None = getattr(self.release, name)
        if not known:
            hint = "; start it with --previous" if name == "previous" else ""
            raise self.error(f"the release {self.release.id} has no {{{name}}}{hint}", key)
        return known

    def argument(self, written: str, key: str) -> str:
        """Fill an item of a list, an argument of a command: there, placeholders may stand within longer text.

        Whatever a value holds, it stays within its one argument. What it could still do is turn that into an option, or
        mean something to whoever reads the longer text: neither is let through.
        """

        def known(found: re.Match[str]) -> str:
            value = self.value(found[0], key)
            alone = found[0] == written
            if alone and (value.startswith("-") or not value.isprintable()):
                problem = "an argument may not begin with -, as options do, nor hold what cannot be printed"
                raise self.error(f"{found[0]} is {value!r}: {problem}", key)
            if not alone and not _PLAIN.fullmatch(value):
                problem = "only letters, digits and . _ + ~ - may stand within an argument; make it one of its own"
                raise self.error(f"{found[0]} is {value!r}: {problem}", key)
            return value

        return _PLACEHOLDER.sub(known, written)

    def pairs(self, pairs: Labels, key: str) -> Labels:
        return tuple((label, self.value(value, f"{key}.{label}")) for label, value in pairs)

    def arm(self, name: str, pairs: Labels | None) -> Labels | None:
        return None if pairs is None else self.pairs(pairs, f"arms.{name}")

    def split(self) -> Split | None:
        """Return the traffic split, its counter narrowed to the release."""
        split = self.entry.split
        if split is None:
            return None
        matchers = (
            replace(each, value=self.value(each.value, "split.assigned")) if each.op in ("=", "!=") else each
            for each in split.assigned.matchers
        )
        return replace(split, assigned=replace(split.assigned, matchers=tuple(matchers)))

    def switch(self) -> str | None:
        """Return the key of the kill switch."""
        return switch_key(self.entry, self.value, self.argument)


def _as_written(written: str, _: str) -> str:
    return written


def switch_key(entry: ReleaseEntry, fill: Fill = _as_written, argument: Fill = _as_written) -> str | None:
    """Return the key of an entry's kill switch, `name:path` or `name:{canonical JSON}`; None where it has none.

    `fill` puts a value where a placeholder stands, and `argument` does so within the items of lists; by default
    placeholders stay, which is enough to read a switch and to check its settings.
    """

    def filled(value: Any, key: str, fill: Fill) -> Any:
        if isinstance(value, Mapping):
            return {name: filled(each, f"{key}.{name}", fill) for name, each in value.items()}
        if isinstance(value, list):
            return [filled(each, f"{key}.{index}", argument) for index, each in enumerate(value)]
        return fill(value, key) if isinstance(value, str) else value

    for name, settings in (entry.kill or {}).items():
        if isinstance(settings, str):
            return f"{name}:{settings}"
        known = filled(settings, f"kill.{name}", fill)
        return f"{name}:{json.dumps(known, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"
    return None

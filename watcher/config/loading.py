"""From the files to the installation: watcher.yaml checked, paths made absolute, rule packs loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watcher.config.installation import (
    LONG_PAST,
    AlertmanagerSettings,
    HttpSettings,
    Installation,
    Metrics,
    Notice,
    PingSettings,
    ReleaseEntry,
    Service,
    SlackSettings,
    WebhookSettings,
)
from watcher.config.installation_file import HttpFile, InstallationFile, MetricsFile, ServiceFile, SlackFile
from watcher.config.quantities import DAY, parse_interval, parse_local_day
from watcher.config.release_file import ReleaseFile, SplitFile
from watcher.config.rule_packs import load_rules, rule_pack_path
from watcher.config.strict_yaml import Document, read
from watcher.config.yaml_nodes import Key
from watcher.errors import ConfigError
from watcher.model import Alpha, Mode, Rule, Split, Strategy, Target, labels


def load_installation(path: str | Path) -> Installation:
    """Read watcher.yaml and the rule packs it names.

    Raises:
        ConfigError: what is wrong, with file, line and key.
    """
    document = read(path)
    raw = document.validate(InstallationFile)
    folder = Path(path).absolute().parent
    return Installation(
        file=Path(path),
        journal=_journal(folder, raw.journal),
        metrics=_metrics(folder, raw.metrics),
        block=raw.block,
        settle=raw.settle,
        alpha=Alpha(**raw.alpha.model_dump()),
        slack=None if raw.slack is None else _slack(folder, raw.slack),
        alertmanager=None
        if raw.alertmanager is None
        else AlertmanagerSettings(**_files_resolved(folder, raw.alertmanager.model_dump())),
        webhooks=tuple(WebhookSettings(**_files_resolved(folder, each.model_dump())) for each in raw.webhooks),
        http=None if raw.http is None else _http(folder, raw.http),
        ping=None if raw.ping is None else PingSettings(**_files_resolved(folder, raw.ping.model_dump())),
        may_turn_off=frozenset(Target(**each.model_dump()) for each in raw.may_turn_off),
        services={name: _service(document, folder, name, service) for name, service in raw.services.items()},
    )


def _resolved(folder: Path, name: str) -> Path:
    # Symbolic links stay: a mounted configuration replaces their targets.
    return Path(os.path.abspath(folder / name))


def _files_resolved(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _resolved(folder, value) if key.endswith("_file") and value is not None else value
        for key, value in settings.items()
    }


def _journal(folder: Path, url: str) -> str:
    scheme, _, rest = url.partition("://")
    name, mark, query = rest.removeprefix("/").partition("?")
    if not scheme.startswith("sqlite") or name in ("", ":memory:") or name.startswith("file:"):
        return url
    return f"{scheme}:///{_resolved(folder, name)}{mark}{query}"


def _metrics(folder: Path, raw: MetricsFile) -> Metrics:
    settings = _files_resolved(folder, raw.model_dump(exclude={"headers"}))
    return Metrics(
        **settings,
        headers={name: value for name, value in raw.headers.items() if not name.endswith("_file")},
        header_files={
            name.removesuffix("_file"): _resolved(folder, value)
            for name, value in raw.headers.items()
            if name.endswith("_file")
        },
    )


def _slack(folder: Path, raw: SlackFile) -> SlackSettings:
    return SlackSettings(**_files_resolved(folder, raw.model_dump(exclude={"users"})), users=tuple(raw.users))


def _http(folder: Path, raw: HttpFile) -> HttpSettings:
    host, port = raw.listen
    return HttpSettings(host, port, **_files_resolved(folder, raw.model_dump(exclude={"listen"})))


def _service(document: Document, folder: Path, name: str, raw: ServiceFile) -> Service:
    rules = _service_rules(document, folder, name, raw.rules)
    for index, entry in enumerate(raw.releases):
        for label in entry.focus:
            if not any(label in rule.by for rule in rules):
                problem = f"no rule of this service has streams per {label}; add it to `by` of a rule pack"
                raise document.error(problem, "services", name, "releases", index, "focus", label)
    return Service(
        name=name,
        environment=raw.environment,
        rules=rules,
        releases=tuple(_entry(document, folder, name, index, entry) for index, entry in enumerate(raw.releases)),
        select=labels(raw.select),
        tell=tuple(raw.tell),
        links=labels(raw.links),
        mode=Mode(raw.mode),
        watch_for=raw.watch_for,
        warm_up=raw.warm_up,
        require_backtest=raw.require_backtest,
        zone=raw.timezone,
        called_by=tuple(raw.called_by),
        repository=raw.repository,
        unusual=(*(parse_local_day(day, raw.timezone) for day in raw.holidays), *map(parse_interval, raw.incidents)),
    )


def _service_rules(document: Document, folder: Path, name: str, packs: list[str]) -> tuple[Rule, ...]:
    rules: dict[str, Rule] = {}
    for index, pack in enumerate(packs):
        where: tuple[Key, ...] = ("services", name, "rules", index)
        try:
            path = rule_pack_path(pack, folder)
        except ConfigError as error:
            raise document.error(error.problem, *where) from error
        for rule in load_rules(path):
            if rule.name in rules:
                raise document.error(f"the rule {rule.name} of {pack} is also in an earlier pack", *where)
            rules[rule.name] = rule
    return tuple(rules.values())


def _entry(document: Document, folder: Path, service: str, index: int, raw: ReleaseFile) -> ReleaseEntry:
    where: tuple[Key, ...] = ("services", service, "releases", index)
    notice = raw.notice
    return ReleaseEntry(
        strategy=Strategy(raw.strategy),
        notice=Notice(
            flags_file=None if notice.flags_file is None else _resolved(folder, notice.flags_file),
            label=notice.label,
            switch=bool(notice.switch),
            http=bool(notice.http),
        ),
        features=tuple(notice.features or ((service,) if notice.label or notice.switch else ())),
        baseline=labels(raw.arms.baseline) if raw.arms else None,
        treatment=labels(raw.arms.treatment) if raw.arms else None,
        focus=labels(raw.focus),
        split=None if raw.split is None else _split(raw.split),
        share=raw.split.share if raw.split and isinstance(raw.split.share, float) else None,
        kill=None if raw.kill is None else {name: _kill(folder, settings) for name, settings in raw.kill.items()},
        history=raw.history if raw.history is not None else (DAY if raw.arms else LONG_PAST),
        promote=tuple(raw.promote),
        key=".".join(map(str, where)),
        line=document.line(*where),
    )


def _split(raw: SplitFile) -> Split:
    return Split(raw.assigned, "notice" if isinstance(raw.share, float) else raw.share)


def _kill(folder: Path, settings: Any) -> Any:
    """Return a switch's settings with its files resolved; everything else is the switch's own business."""
    if isinstance(settings, str):
        return settings if "://" in settings else str(_resolved(folder, settings))
    return _kill_settings(folder, settings)


def _kill_settings(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(settings)
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found[key] = _kill_settings(folder, value)
        elif isinstance(value, str) and _names_a_file(key):
            found[key] = str(_resolved(folder, value))
    return found


def _names_a_file(key: str) -> bool:
    return key == "file" or key.endswith("_file")

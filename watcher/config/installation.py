"""watcher.yaml as the rest of watcher sees it: frozen, with paths absolute and rules loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watcher.config.installation_file import (
    HttpFile,
    InstallationFile,
    MetricsFile,
    ReleaseFile,
    ServiceFile,
    SplitFile,
)
from watcher.config.quantities import DAY, parse_interval, parse_local_day
from watcher.config.rule_packs import load_rules, rule_pack_path
from watcher.config.strict_yaml import Document, read
from watcher.config.yaml_nodes import Key
from watcher.errors import ConfigError
from watcher.model import Alpha, Labels, Mode, Rule, Split, Strategy, labels
from watcher.secrets import from_environment, secret

LONG_PAST = 28 * DAY
"""Seconds of history to learn from where there is no control."""


@dataclass(frozen=True)
class Metrics:
    """Where metrics are read. Files are read when they are needed: `bearer`, `basic_auth`, `request_headers`."""

    prometheus: str
    bearer_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """May hold ${VARIABLE}."""
    header_files: Mapping[str, Path] = field(default_factory=dict)
    replica_label: str | None = None

    def request_headers(self, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers to send besides the bearer token's, secrets read now.

        Raises:
            ConfigError: a file or a variable is missing.
        """
        sent = {name: from_environment(value, environment) for name, value in self.headers.items()}
        return sent | {name: secret(path) for name, path in self.header_files.items()}

    def bearer(self) -> str | None:
        """Return the bearer token, read now, where one is configured; errors as `secret`."""
        return None if self.bearer_file is None else secret(self.bearer_file)

    def basic_auth(self) -> tuple[str, str] | None:
        """Return user and password, read now, where basic authentication is configured; errors as `secret`."""
        if self.username is None or self.password_file is None:
            return None
        return self.username, secret(self.password_file)


@dataclass(frozen=True)
class SlackSettings:
    """Who is told on Slack: by a bot (`token_file`, `channel`) or by an incoming webhook (`webhook_file`)."""

    token_file: Path | None = None
    webhook_file: Path | None = None
    channel: str | None = None
    mention: str | None = None
    base_url: str | None = None


@dataclass(frozen=True)
class HttpSettings:
    """Where watcher listens, and who may tell it of releases. Files are read when they are needed."""

    host: str
    port: int
    token_file: Path | None = None
    github_secret_file: Path | None = None

    @property
    def listen(self) -> str:
        """The address as it is written: HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def token(self) -> str | None:
        """Return the bearer token, read now, where one is configured; errors as `secret`."""
        return None if self.token_file is None else secret(self.token_file)

    def github_secret(self) -> str | None:
        """Return the secret of the GitHub webhook, read now, where one is configured; errors as `secret`."""
        return None if self.github_secret_file is None else secret(self.github_secret_file)


@dataclass(frozen=True)
class Notice:
    """How watcher learns of a release: exactly one of the four is set."""

    flags_file: Path | None = None
    label: str | None = None
    switch: bool = False
    http: bool = False


@dataclass(frozen=True)
class ReleaseEntry:
    """One way users of a service become exposed.

    Values of arms and focus are literal, or exactly one placeholder. `kill` holds one switch and its settings, files
    resolved. `features` are those to notice: of a flags file the ones named, of a label the one it versions.
    """

    strategy: Strategy
    notice: Notice
    features: tuple[str, ...] = ()
    baseline: Labels | None = None
    treatment: Labels | None = None
    focus: Labels = ()
    split: Split | None = None
    share: float | None = None
    """The treatment's share of the users in a stage of which the notice names none."""
    promote: tuple[float, ...] = ()
    """Shares to go through, each once the one before is proven healthy; none: people raise it."""
    kill: Mapping[str, Any] | None = None
    history: float = DAY
    key: str = ""
    """Dotted path in watcher.yaml, for messages."""
    line: int | None = None


@dataclass(frozen=True)
class Service:
    """One service. Durations are seconds."""

    name: str
    environment: str
    rules: tuple[Rule, ...]
    releases: tuple[ReleaseEntry, ...]
    select: Labels = ()
    tell: tuple[str, ...] = ()
    links: Labels = ()
    mode: Mode = Mode.OBSERVE
    watch_for: float = DAY
    warm_up: float = 300.0
    require_backtest: bool = False
    zone: str = "UTC"
    unusual: tuple[tuple[float, float], ...] = ()
    """Stretches of its past that are not usual: holidays and incidents, epoch seconds."""
    repository: str | None = None
    """On GitHub, `owner/name`; None: the one whose name is the service's."""


@dataclass(frozen=True)
class Installation:
    """watcher.yaml, with its rule packs loaded and its paths absolute. Durations are seconds."""

    file: Path
    metrics: Metrics
    services: Mapping[str, Service]
    journal: str = "sqlite:///watcher.db"
    block: float = 60.0
    settle: float = 45.0
    alpha: Alpha = field(default_factory=Alpha)
    slack: SlackSettings | None = None
    http: HttpSettings | None = None


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
        slack=None if raw.slack is None else SlackSettings(**_files_resolved(folder, raw.slack.model_dump())),
        http=None if raw.http is None else _http(folder, raw.http),
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

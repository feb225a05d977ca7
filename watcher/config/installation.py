"""watcher.yaml as the rest of watcher sees it: frozen, with paths absolute and rules loaded."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from watcher import tokens
from watcher.addresses import refused
from watcher.config.quantities import DAY
from watcher.errors import ConfigError
from watcher.model import Alpha, Labels, Mode, Release, Rule, Split, Strategy, Target, Watch
from watcher.secrets import conceal, from_environment, secret, secrets_in
from watcher.signing import key_of

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
        sent = {name: from_environment(value, environment, of=name) for name, value in self.headers.items()}
        return sent | {name: secret(path) for name, path in self.header_files.items()}

    def bearer(self) -> str | None:
        """Return the bearer token, read now, where one is configured; errors as `secret`."""
        return None if self.bearer_file is None else secret(self.bearer_file)

    def basic_auth(self) -> tuple[str, str] | None:
        """Return user and password, read now, where basic authentication is configured; errors as `secret`."""
        if self.username is None or self.password_file is None:
            return None
        password = secret(self.password_file)
        conceal(b64encode(f"{self.username}:{password}".encode()).decode())
        return self.username, password


@dataclass(frozen=True)
class SlackSettings:
    """Who is told on Slack: by a bot (`token_file`, `channel`) or by an incoming webhook (`webhook_file`)."""

    token_file: Path | None = None
    webhook_file: Path | None = None
    channel: str | None = None
    mention: str | None = None
    base_url: str | None = None
    signing_secret_file: Path | None = None
    app_token_file: Path | None = None
    users: tuple[str, ...] = ()
    """Who may use `/watcher` and buttons."""

    def app_token(self) -> str | None:
        """Return the token that Socket Mode takes, read now, where that is configured; errors as `secret`."""
        return None if self.app_token_file is None else secret(self.app_token_file).strip()

    def signing_secret(self) -> str | None:
        """Return what Slack signs with, read now, where that is configured; errors as `secret`."""
        return None if self.signing_secret_file is None else secret(self.signing_secret_file)


@dataclass(frozen=True)
class AlertmanagerSettings:
    """An Alertmanager that is told. Files are read when they are needed."""

    url: str
    bearer_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class WebhookSettings:
    """A system of the user's own that is told: at `url`, or at what `url_file` holds."""

    name: str
    secret_file: Path
    url: str | None = None
    url_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class HttpSettings:
    """Where watcher listens, and who may tell it of releases. Files are read when they are needed."""

    host: str
    port: int
    url: str | None = None
    """Where people reach the page."""
    tokens_file: Path | None = None
    github_secret_file: Path | None = None
    webhook_secrets_file: Path | None = None

    @property
    def listen(self) -> str:
        """The address as it is written: HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def tokens(self) -> list[tokens.Known]:
        """Return who holds a bearer token, read now.

        Raises:
            ConfigError: the file cannot be read, or a line of it is none.
        """
        return [] if self.tokens_file is None else tokens.read(self.tokens_file)

    def github_secret(self) -> str | None:
        """Return the secret of the GitHub webhook, read now, where one is configured; errors as `secret`."""
        return None if self.github_secret_file is None else secret(self.github_secret_file)

    def webhook_keys(self) -> list[bytes]:
        """Return the keys that webhooks may be signed with, read now.

        Raises:
            ConfigError: the file cannot be read, or a line of it is no key.
        """
        if self.webhook_secrets_file is None:
            return []
        try:
            return [key_of(each) for each in secrets_in(self.webhook_secrets_file)]
        except ValueError as error:
            raise ConfigError(str(error), file=str(self.webhook_secrets_file)) from None


@dataclass(frozen=True)
class PingSettings:
    """Who hears from a daemon that works: exactly one of the two is set."""

    url: str | None = None
    url_file: Path | None = None

    def address(self) -> str:
        """Return the address, read now.

        Raises:
            ConfigError: the file is missing, or holds no address. It is not repeated: who knows it can ping, too.
        """
        found = (self.url or "") if self.url_file is None else secret(self.url_file).strip()
        if re.fullmatch(r"https?://[!-~]+", found) is None or not urlsplit(found).hostname:
            where = None if self.url_file is None else str(self.url_file)
            raise ConfigError("expected one URL such as https://hc-ping.com/...", file=where, key="ping")
        if why := refused(found):
            raise ConfigError(why, file=None if self.url_file is None else str(self.url_file), key="ping")
        conceal(found)
        return found


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
    called_by: tuple[str, ...] = ()
    """Services that call this one: they are worse whenever it is, and say nothing of what else may be the cause."""
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
    alertmanager: AlertmanagerSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = ()
    http: HttpSettings | None = None
    ping: PingSettings | None = None
    may_turn_off: frozenset[Target] = frozenset()
    """What armed services may turn off, and nothing else."""

    def mode_of(self, release: Release) -> Mode:
        """Return how far watcher may go with a release now; of a service that is gone, it only looks on."""
        service = self.services.get(release.service)
        return Mode.OBSERVE if service is None or service.environment != release.environment else service.mode

    def unrelated(self, release: Release) -> list[Service]:
        """Return the other services of the environment that are no worse just because this release is bad."""
        own = self.services.get(release.service)
        related = {release.service, *(own.called_by if own else ())}
        return [
            each
            for name, each in self.services.items()
            if name not in related and each.environment == release.environment
        ]

    def allows(self, watch: Watch) -> bool:
        """Tell whether the flag of a release is among those that watcher may turn off by itself."""
        return watch.target in self.may_turn_off

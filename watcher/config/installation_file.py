"""watcher.yaml as it is written: its keys, and what must hold between them.

schemas/watcher.schema.json comes from `InstallationFile`; `installation` turns it into what the rest of watcher sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from watcher.addresses import refused
from watcher.config.quantities import DAY, Duration, Interval, LocalDay, Zone
from watcher.config.release_file import ReleaseFile, in_a_file
from watcher.config.rule_pack_file import LabelName, Name, Text
from watcher.config.strict_yaml import Strict, located
from watcher.model import Alpha
from watcher.secrets import HEADER_NAME, SECRET_NAME, VARIABLE


def _web_address(value: object) -> object:
    """Let http(s) URLs pass, without credentials; what is no text is left to the model."""
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL that starts with http:// or https://")
        if parts.password is not None:
            raise ValueError("a password does not belong into a URL; keep it in a file (`password_file`)")
        if why := refused(value):
            raise ValueError(why)
    return value


WebAddress = Annotated[str, BeforeValidator(_web_address)]


class ServerFile(Strict):
    """How a server is spoken to that may ask who speaks."""

    instead: ClassVar[Mapping[str, str]] = {
        **{key: in_a_file("bearer") for key in ("bearer", "token", "bearer_token", "token_file")},
        "password": in_a_file("password"),
    }
    bearer_file: Text | None = Field(None, description="File that holds a bearer token.")
    username: Text | None = Field(None, description="User of basic authentication; needs password_file.")
    password_file: Text | None = None
    ca_file: Text | None = Field(None, description="Certificates to trust, instead of the system's.")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            lacks = "username" if self.username is None else "password_file"
            raise located("is missing: basic authentication needs username and password_file", lacks)
        if self.username and self.bearer_file:
            raise located("give either bearer_file or username and password_file", "bearer_file")
        return self


class MetricsFile(ServerFile):
    """Where metrics are read."""

    prometheus: WebAddress = Field(description="URL of Prometheus or anything with its API.")
    headers: dict[str, Text] = Field({}, description="NAME: value (may hold ${VARIABLE}), or NAME_file: path.")
    replica_label: LabelName | None = Field(None, description="Series that differ only in this label are one.")

    @model_validator(mode="after")
    def _headers_are_safe(self) -> Self:
        for name, value in self.headers.items():
            if not HEADER_NAME.fullmatch(name):
                raise located("is not a name of a header", "headers", name)
            if SECRET_NAME.search(name) and not name.endswith("_file") and not VARIABLE.search(value):
                raise located(in_a_file(name) + " or name a variable: ${NAME}", "headers", name)
        return self


class AlphaFile(Strict):
    """Error rates a release may spend."""

    regressed: float = Field(default=Alpha.regressed, gt=0, lt=1)
    before_after: float = Field(default=Alpha.before_after, gt=0, lt=1, description="That of regressed, no control.")
    healthy: float = Field(default=Alpha.healthy, gt=0, lt=1)
    split: float = Field(default=Alpha.split, gt=0, lt=1)


class SlackFile(Strict):
    """Who is told on Slack."""

    instead: ClassVar[Mapping[str, str]] = {
        key: in_a_file(key) for key in ("token", "webhook", "bearer", "password", "app_token", "signing_secret")
    }
    token_file: Text | None = Field(None, description="File that holds a bot token.")
    webhook_file: Text | None = Field(None, description="File that holds the URL of an incoming webhook.")
    channel: Text | None = Field(None, description='Needed with token_file; in quotes: "#releases".')
    mention: Text | None = None
    base_url: WebAddress | None = Field(None, description="Address of the API, where it is reached through a proxy.")
    signing_secret_file: Text | None = Field(
        None, description="File of the app's signing secret, for `/watcher` and buttons."
    )
    app_token_file: Text | None = Field(
        None, description="File of an app token: Socket Mode, in place of signing_secret_file and an address."
    )
    users: list[Annotated[str, Field(pattern=r"^[UW][A-Z0-9]{2,20}$")]] = Field(
        [], description="Members, by their ids, who may use `/watcher` and buttons; nobody else may."
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.token_file is None) == (self.webhook_file is None):
            raise located("Slack needs exactly one of token_file and webhook_file", "token_file")
        if self.token_file and not self.channel:
            raise located("is missing: a bot token needs a channel to write to", "channel")
        if self.signing_secret_file and self.app_token_file:
            raise located("give one of the two: signing_secret_file (over HTTP) or app_token_file", "app_token_file")
        if self.app_token_file and not self.token_file:
            raise located("is missing: Socket Mode takes a bot token", "token_file")
        if bool(self.users) != (self.signing_secret_file is not None or self.app_token_file is not None):
            key = "signing_secret_file" if self.users else "users"
            both = "signing_secret_file (or app_token_file) and users, both"
            raise located(f"is missing: `/watcher` and buttons in Slack take {both}", key)
        return self


class AlertmanagerFile(ServerFile):
    """An Alertmanager that is told what every release is."""

    url: WebAddress = Field(description="URL of Alertmanager, without /api/v2.")


class WebhookFile(Strict):
    """A system of your own that is sent every message, signed as Standard Webhooks says."""

    instead: ClassVar[Mapping[str, str]] = {"secret": in_a_file("secret")}
    name: Name = Field(description="What it is called, in the log and in `watcher history --actions`.")
    url: WebAddress | None = None
    url_file: Text | None = Field(None, description="File that holds the URL, where whoever knows it may send.")
    secret_file: Text = Field(description="File that holds the secret: whsec_ and base64.")
    ca_file: Text | None = Field(None, description="Certificates to trust, instead of the system's.")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url_file is None) == (self.url is None):
            raise located("give exactly one of url and url_file", "url")
        return self


_LISTEN = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})"


def _host_and_port(value: object) -> tuple[str, int]:
    """Return the two parts of HOST:PORT; an address of IPv6 stands in brackets, and comes without them."""
    found = re.fullmatch(_LISTEN, value, re.ASCII) if isinstance(value, str) else None
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:8080 or [::1]:8080, found {value!r}")
    return found[1].strip("[]"), int(found[2])


class HttpFile(Strict):
    """Where watcher listens, and who may tell it of releases."""

    instead: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("token", "token_file", "bearer", "bearer_token", "bearer_file", "password"),
            "write tokens_file: PATH, of a file that `watcher token new NAME` writes",
        ),
        **{key: in_a_file("github_secret") for key in ("github_secret", "secret", "secret_file", "webhook_secret")},
        **dict.fromkeys(("host", "port", "address", "bind"), "write listen: HOST:PORT, such as 127.0.0.1:8080"),
    }
    listen: Annotated[
        tuple[str, int], PlainValidator(_host_and_port), WithJsonSchema({"type": "string", "pattern": f"^{_LISTEN}$"})
    ] = Field(description="HOST:PORT; plain HTTP, so beyond this machine put a proxy with TLS in front.")
    url: WebAddress | None = Field(None, description="Where people reach the page, for links: https://watcher.example")
    tokens_file: Text | None = Field(None, description="File of who may ask for what; `watcher token new` writes it.")
    github_secret_file: Text | None = Field(None, description="File that holds the secret of a GitHub webhook.")
    webhook_secrets_file: Text | None = Field(
        None, description="File of secrets, one a line, any of which may sign as Standard Webhooks says."
    )

    @model_validator(mode="after")
    def _somebody_may_tell(self) -> Self:
        if (self.tokens_file, self.github_secret_file, self.webhook_secrets_file) == (None, None, None):
            problem = "is missing: nobody could tell of a release; give it, github_secret_file or webhook_secrets_file"
            raise located(problem, "tokens_file")
        return self


class PingFile(Strict):
    """Who gives alarm when it hears no more from watcher."""

    instead: ClassVar[Mapping[str, str]] = dict.fromkeys(("address", "file"), "write url_file: PATH")
    url_file: Text | None = Field(None, description="File that holds the URL, where whoever knows it may ping.")
    url: WebAddress | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url_file is None) == (self.url is None):
            raise located("give exactly one of url_file and url", "url_file")
        return self


class ServiceFile(Strict):
    """One service: what is watched, who is told, how far watcher may go."""

    environment: Name = "production"
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")] | None = Field(
        None, description="OWNER/NAME on GitHub; left out: the repository called like the service."
    )
    select: dict[LabelName, str] = Field({}, description="Label values that are ANDed into every selector.")
    rules: list[Text] = Field(min_length=1, description="Rule packs: paths, or names of those that ship.")
    called_by: list[Name] = Field([], description="Services that call this one, and are worse whenever it is.")
    tell: list[Text] = Field([], description='Channels of stakeholders, in quotes: "#support".')
    links: dict[Text, WebAddress] = Field({}, description="Shown with every message: runbook, dashboard.")
    mode: Literal["observe", "recommend", "armed"] = "observe"
    watch_for: Annotated[Duration, Field(gt=0)] = DAY
    warm_up: Duration = 300.0
    require_backtest: bool = Field(False, description="Armed only after a recorded backtest of these rules.")
    timezone: Zone = Field("UTC", description="IANA name of the time users live by: Europe/Berlin.")
    holidays: list[LocalDay] = Field([], description="Local days that are not usual: 2026-12-25.")
    incidents: list[Interval] = Field([], description="Stretches that were not usual: FROM/TO, both ISO 8601.")
    releases: list[ReleaseFile] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        for label, value in self.select.items():
            if "{" in value or "}" in value:
                raise located("placeholders work in arms and focus only", "select", label)
        if self.warm_up >= self.watch_for:
            raise located("must be shorter than watch_for, or nothing is ever counted", "warm_up")
        if self.mode == "armed" and not any(entry.kill for entry in self.releases):
            raise located("armed needs a `kill` in at least one of the releases", "mode")
        return self


class TargetFile(Strict):
    """Something that watcher may turn off by itself. No wildcards: what is not named is not meant."""

    switch: Text = Field(description="Kind of kill switch, as `kill` names it: yaml_flags.")
    feature: Text
    environment: Text

    @model_validator(mode="after")
    def _nothing_is_a_pattern(self) -> Self:
        for key in ("switch", "feature", "environment"):
            if set(getattr(self, key)) & set("*?{}"):
                raise located("is a pattern: name each that may be turned off by itself", key)
        return self


class InstallationFile(Strict):
    """watcher.yaml: where metrics, flags and alerts are, which rules apply, who is told, how far watcher may go."""

    journal: Text = Field("sqlite:///watcher.db", description="SQLAlchemy URL of the journal.")
    metrics: MetricsFile
    block: Duration = Field(60.0, description="Cell of the time grid; must divide a day.")
    settle: Duration = Field(45.0, description="How long samples of a block may still arrive.")
    alpha: AlphaFile = AlphaFile()
    slack: SlackFile | None = None
    alertmanager: AlertmanagerFile | None = None
    webhooks: list[WebhookFile] = Field([], description="Systems of your own that are told.")
    http: HttpFile | None = Field(None, description="Listen for releases: POST /v1/releases.")
    ping: PingFile | None = Field(None, description="Asked for (GET) once a minute, while watcher does all it is for.")
    may_turn_off: list[TargetFile] = Field([], description="What armed services may turn off, and nothing else.")
    services: dict[Name, ServiceFile] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.block < 1 or DAY % self.block:
            raise located("must divide a day, and be 1s or longer: 15s, 30s, 60s, 5m", "block")
        if not re.match(r"[a-z0-9+]+://", self.journal):
            raise located("expected a URL such as sqlite:///watcher.db or postgresql+psycopg://host/name", "journal")
        if re.search(r"://[^/@]*:[^/@]+@|[?&](ssl)?password=", self.journal):
            raise located("a password does not belong into this file; set PGPASSWORD or PGPASSFILE", "journal")
        return self

    @model_validator(mode="after")
    def _webhooks_have_names_of_their_own(self) -> Self:
        names = [each.name for each in self.webhooks]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise located(f"{name} is the name of another webhook", "webhooks", index, "name")
        return self

    @model_validator(mode="after")
    def _slack_finds_the_door(self) -> Self:
        if self.slack is not None and self.slack.signing_secret_file is not None and self.http is None:
            raise located("`/watcher` in Slack comes over HTTP: give `http: {listen: ...}`, too", "slack", "users")
        return self

    @model_validator(mode="after")
    def _callers_are_services(self) -> Self:
        for name, service in self.services.items():
            for index, caller in enumerate(service.called_by):
                if caller not in self.services or caller == name:
                    others = ", ".join(sorted(set(self.services) - {name})) or "no other"
                    raise located(
                        f"{caller} is no other service of this file; there is: {others}",
                        "services",
                        name,
                        "called_by",
                        index,
                    )
        return self

    @model_validator(mode="after")
    def _armed_services_have_targets(self) -> Self:
        named = [(each.switch, each.environment) for each in self.may_turn_off]
        known: set[tuple[str, str]] = set()
        for service in self.services.values():
            here = {(switch, service.environment) for entry in service.releases for switch in entry.kill or ()}
            known |= here
            if service.mode == "armed" and not here & set(named):
                switch, environment = min(here)
                line = f"- {{switch: {switch}, feature: FEATURE, environment: {environment}}}"
                raise located(f"armed services turn off what is named here, and nothing else: `{line}`", "may_turn_off")
        for index, each in enumerate(named):
            if known and each not in known:
                found = ", ".join(f"{switch} in {environment}" for switch, environment in sorted(known))
                raise located(
                    f"no service has a `kill` by {' in '.join(each)}; there is: {found}", "may_turn_off", index
                )
        return self

"""watcher.yaml as it is written: its keys, and what must hold between them.

schemas/watcher.schema.json comes from `InstallationFile`; `installation` turns it into what the rest of watcher sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from watcher.config.quantities import DAY, Duration, Interval, LocalDay, Zone, parse_share
from watcher.config.rule_pack_file import LabelName, Name, PlainSelector, Text
from watcher.config.strict_yaml import Strict, closest, located
from watcher.config.yaml_nodes import Key
from watcher.model import Alpha
from watcher.secrets import VARIABLE

PLACEHOLDERS = ("feature", "version", "previous")


def _web_address(value: object) -> object:
    """Let http(s) URLs pass, without credentials; what is no text is left to the model."""
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL that starts with http:// or https://")
        if parts.password is not None:
            raise ValueError("a password does not belong into a URL; keep it in a file (`password_file`)")
    return value


WebAddress = Annotated[str, BeforeValidator(_web_address)]


def _in_a_file(key: str) -> str:
    return f"a secret does not belong into this file; put it into a file of its own and write {key}_file: PATH"


class MetricsFile(Strict):
    """Where metrics are read."""

    instead: ClassVar[Mapping[str, str]] = {
        **{key: _in_a_file("bearer") for key in ("bearer", "token", "bearer_token", "token_file")},
        "password": _in_a_file("password"),
    }
    prometheus: WebAddress = Field(description="URL of Prometheus or anything with its API.")
    bearer_file: Text | None = Field(None, description="File that holds a bearer token.")
    username: Text | None = Field(None, description="User of basic authentication; needs password_file.")
    password_file: Text | None = None
    ca_file: Text | None = Field(None, description="Certificates to trust, instead of the system's.")
    headers: dict[str, Text] = Field({}, description="NAME: value (may hold ${VARIABLE}), or NAME_file: path.")
    replica_label: LabelName | None = Field(None, description="Series that differ only in this label are one.")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            lacks = "username" if self.username is None else "password_file"
            raise located("is missing: basic authentication needs username and password_file", lacks)
        if self.username and self.bearer_file:
            raise located("give either bearer_file or username and password_file", "bearer_file")
        for name, value in self.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise located("is not a name of a header", "headers", name)
            secret_name = re.search(r"auth|token|key|secret|password|cookie|session", name.lower())
            if secret_name and not name.endswith("_file") and not VARIABLE.search(value):
                raise located(_in_a_file(name) + " or name a variable: ${NAME}", "headers", name)
        return self


class AlphaFile(Strict):
    """Error rates a release may spend."""

    regressed: float = Field(default=Alpha.regressed, gt=0, lt=1)
    before_after: float = Field(default=Alpha.before_after, gt=0, lt=1, description="That of regressed, no control.")
    healthy: float = Field(default=Alpha.healthy, gt=0, lt=1)
    split: float = Field(default=Alpha.split, gt=0, lt=1)


class SlackFile(Strict):
    """Who is told on Slack."""

    instead: ClassVar[Mapping[str, str]] = {key: _in_a_file(key) for key in ("token", "webhook", "bearer", "password")}
    token_file: Text | None = Field(None, description="File that holds a bot token.")
    webhook_file: Text | None = Field(None, description="File that holds the URL of an incoming webhook.")
    channel: Text | None = Field(None, description='Needed with token_file; in quotes: "#releases".')
    mention: Text | None = None
    base_url: WebAddress | None = Field(None, description="Address of the API, where it is reached through a proxy.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.token_file is None) == (self.webhook_file is None):
            raise located("Slack needs exactly one of token_file and webhook_file", "token_file")
        if self.token_file and not self.channel:
            raise located("is missing: a bot token needs a channel to write to", "channel")
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
        **{key: _in_a_file("token") for key in ("token", "bearer", "bearer_token", "bearer_file", "password")},
        **{key: _in_a_file("github_secret") for key in ("github_secret", "secret", "secret_file", "webhook_secret")},
        **dict.fromkeys(("host", "port", "address", "bind"), "write listen: HOST:PORT, such as 127.0.0.1:8080"),
    }
    listen: Annotated[
        tuple[str, int], PlainValidator(_host_and_port), WithJsonSchema({"type": "string", "pattern": f"^{_LISTEN}$"})
    ] = Field(description="HOST:PORT; plain HTTP, so beyond this machine put a proxy with TLS in front.")
    token_file: Text | None = Field(None, description="File that holds the bearer token of who may tell of releases.")
    github_secret_file: Text | None = Field(None, description="File that holds the secret of a GitHub webhook.")

    @model_validator(mode="after")
    def _somebody_may_tell(self) -> Self:
        if self.token_file is None and self.github_secret_file is None:
            raise located("is missing: nobody could tell of a release; give it or github_secret_file", "token_file")
        return self


class NoticeFile(Strict):
    """How watcher learns of a release."""

    flags_file: Text | None = Field(None, description="YAML file of feature flags.")
    features: list[Text] | None = Field(None, min_length=1, description="The features to watch.")
    label: LabelName | None = Field(None, description="A label whose new value is a new version.")
    switch: bool | None = Field(None, description="The kill switch itself, read every few seconds.")
    http: bool | None = Field(None, description="POST /v1/releases or `watcher release start`.")

    @model_validator(mode="after")
    def _one_way_of_noticing(self) -> Self:
        ways = [key for key in ("flags_file", "label", "switch", "http") if getattr(self, key) is not None]
        if self.features and not ways:
            raise located("is missing: features are noticed in a file of flags", "flags_file")
        if len(ways) != 1:
            raise located("give exactly one of flags_file, label, switch and http", *ways[1:2])
        for key in ("switch", "http"):
            if getattr(self, key) is False:
                raise located("leave it out or write true", key)
        if self.flags_file and not self.features:
            raise located("is missing: name the features whose exposure is a release", "features")
        if self.features and (self.http or (self.label and len(self.features) > 1)):
            raise located("belongs to flags_file and switch; label takes one, http takes what it is told", "features")
        return self


class ArmsFile(Strict):
    """What tells the arms apart."""

    baseline: dict[LabelName, str] = Field(min_length=1)
    treatment: dict[LabelName, str] = Field(min_length=1)


def _claimed_share(value: object) -> object:
    """Let the words pass, and turn a share into a fraction."""
    if value in ("notice", "switch"):
        return value
    try:
        share = parse_share(value)
    except ValueError as error:
        raise ValueError(f"expected notice, switch or a share such as 5%, found {value!r}") from error
    if share in (0.0, 1.0):
        raise ValueError(f"with {value} of the users there is nothing to split; leave `split` out")
    return share


class SplitFile(Strict):
    """How traffic should be split between the arms."""

    assigned: PlainSelector = Field(
        description='Counter of users or sessions as they are assigned to an arm; {feature="{feature}"} works in it.'
    )
    share: Annotated[
        Literal["notice", "switch"] | float, PlainValidator(_claimed_share), WithJsonSchema({"type": "string"})
    ] = Field(description="Who says what the treatment's share should be: notice, switch, or a fixed 5%.")


def _step(value: object) -> float:
    share = parse_share(value)
    if share == 0.0:
        raise ValueError("0% is no step")
    return share


Step = Annotated[float, PlainValidator(_step), WithJsonSchema({"type": "string"})]

Kills = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "object"}]},
            "description": "Name of a switch, and its settings.",
        }
    ),
]


class ReleaseFile(Strict):
    """One way users of a service become exposed."""

    strategy: Literal["flag", "canary", "blue_green"]
    notice: NoticeFile
    arms: ArmsFile | None = Field(None, description="Left out: everybody, held against the past.")
    focus: dict[LabelName, str] = Field({}, description="Streams that must be healthy; the others only guard.")
    split: SplitFile | None = None
    kill: Kills | None = None
    promote: list[Step] = Field(
        [], description="Shares to go through on `healthy`: [5%, 25%, 50%, 100%]. Left out: no."
    )
    history: Duration | None = Field(None, description="Past to learn from: 24h with arms, 28d without.")

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        arms = self.arms.model_dump() if self.arms else {}
        for where, pairs in (*((("arms", arm), arms[arm]) for arm in arms), (("focus",), self.focus)):
            for label, value in pairs.items():
                _check_placeholder(value, *where, label)
        if self.arms and self.arms.baseline == self.arms.treatment:
            raise located("is the same as the baseline", "arms", "treatment")
        if self.split is not None:
            self._check_split(self.split)
        if self.kill is not None:
            self._check_kill(self.kill)
        if self.notice.switch and not self.kill:
            raise located("needs a kill switch to read", "notice", "switch")
        if self.promote:
            self._check_promote()
        return self

    def _check_promote(self) -> None:
        if self.strategy == "blue_green" or not self.arms:
            raise located("needs arms: who has it must be proven as well off as who has not", "promote")
        if not self.kill:
            raise located("needs a kill switch that can raise a share, such as haproxy", "promote")
        if any(after <= before for before, after in pairwise(self.promote)):
            raise located("must rise from step to step: [5%, 25%, 50%, 100%]", "promote")

    def _check_split(self, split: SplitFile) -> None:
        share = split.share
        for matcher in split.assigned.matchers:
            if matcher.op in ("=", "!="):
                _check_placeholder(matcher.value, "split", "assigned")
        if not self.arms:
            raise located("needs arms: it is their shares that are compared", "split")
        if share == "switch" and not self.kill:
            raise located("needs a kill switch that reports the share", "split", "share")
        if share == "notice" and self.notice.label:
            raise located("a label does not say what its share should be; write it, such as 5%", "split", "share")
        if isinstance(share, float) and self.notice.flags_file:
            raise located("the flags file says the share (rollout_percentage); write share: notice", "split", "share")

    @staticmethod
    def _check_kill(kill: Mapping[str, Any]) -> None:
        if len(kill) != 1:
            raise located("give exactly one switch, such as {yaml_flags: config/feature-flags.yaml}", "kill")
        [(name, settings)] = kill.items()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise located("is not the name of a switch", "kill", name)
        if not settings or not isinstance(settings, str | dict):
            raise located("expected a path or a mapping of settings", "kill", name)
        for key, value in settings.items() if isinstance(settings, dict) else ():
            if key in _SECRET_SETTINGS and not (isinstance(value, str) and VARIABLE.fullmatch(value)):
                raise located(_in_a_file(key), "kill", name, key)
            for index, item in enumerate(value) if isinstance(value, list) else ():
                _check_argument(item, "kill", name, key, index)


_SECRET_SETTINGS = frozenset({"token", "bearer", "password", "secret", "api_key", "api_token", "access_token"})


def _check_placeholder(value: str, *path: Key) -> None:
    if "{" not in value and "}" not in value:
        return
    if value not in {f"{{{name}}}" for name in PLACEHOLDERS}:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise located(
            f"expected a literal value or exactly one of {known}{closest(value.strip('{}'), PLACEHOLDERS)}", *path
        )


def _check_argument(argument: object, *path: Key) -> None:
    """Find placeholders that are misspelt: other braces within an argument are its own."""
    for name in re.findall(r"\{(\w+)\}", argument) if isinstance(argument, str) else ():
        meant = closest(name, PLACEHOLDERS)
        if name not in PLACEHOLDERS and meant:
            raise located(f"there is no placeholder {{{name}}}{meant}", *path)


class ServiceFile(Strict):
    """One service: what is watched, who is told, how far watcher may go."""

    environment: Name = "production"
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")] | None = Field(
        None, description="OWNER/NAME on GitHub; left out: the repository called like the service."
    )
    select: dict[LabelName, str] = Field({}, description="Label values that are ANDed into every selector.")
    rules: list[Text] = Field(min_length=1, description="Rule packs: paths, or names of those that ship.")
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


class InstallationFile(Strict):
    """watcher.yaml: where metrics, flags and alerts are, which rules apply, who is told, how far watcher may go."""

    journal: Text = Field("sqlite:///watcher.db", description="SQLAlchemy URL of the journal.")
    metrics: MetricsFile
    block: Duration = Field(60.0, description="Cell of the time grid; must divide a day.")
    settle: Duration = Field(45.0, description="How long samples of a block may still arrive.")
    alpha: AlphaFile = AlphaFile()
    slack: SlackFile | None = None
    http: HttpFile | None = Field(None, description="Listen for releases: POST /v1/releases.")
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

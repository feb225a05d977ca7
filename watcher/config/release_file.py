"""One way users of a service become exposed, as watcher.yaml has it: an item of `releases`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from watcher.config.quantities import Duration, parse_share
from watcher.config.rule_pack_file import LabelName, PlainSelector, Text
from watcher.config.strict_yaml import Strict, closest, located
from watcher.config.yaml_nodes import Key
from watcher.secrets import VARIABLE

PLACEHOLDERS = ("feature", "version", "previous")


def in_a_file(key: str) -> str:
    """Return what is said of a secret that stands in watcher.yaml."""
    return f"a secret does not belong into this file; put it into a file of its own and write {key}_file: PATH"


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
                raise located(in_a_file(key), "kill", name, key)
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

"""A rule pack as it is written: its keys, and what must hold between them.

schemas/rules.schema.json comes from `RulePackFile`; `RuleShape.rule` turns a rule into what the rest of watcher sees.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema, model_validator

from watcher.config.quantities import Duration, Margin
from watcher.config.strict_yaml import Strict, closest, located
from watcher.config.yaml_nodes import Key
from watcher.model import Kind, Rule, Selector, Worse

_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"


def _selector(value: object) -> Selector:
    """Parse a plain selector, and try its regular expressions before a server has to."""
    if not isinstance(value, str):
        raise ValueError(f'expected a selector such as requests_total{{code="500"}}, found {value!r}')
    try:
        selector = Selector.parse(value)
    except ValueError as error:
        hint = "" if "raw counters" in str(error) else "; write one plain selector of a raw counter, without arithmetic"
        raise ValueError(f"{error}{hint}") from error
    for matcher in selector.matchers:
        if matcher.op in ("=~", "!~"):
            try:
                re.compile(matcher.value)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{matcher} is not a regular expression: {error}") from error
    return selector


def _histogram(value: object) -> Selector:
    selector = _selector(value)
    for suffix in ("_bucket", "_count", "_sum"):
        if selector.metric.endswith(suffix):
            raise ValueError(f"name the histogram without {suffix}: {selector.metric.removesuffix(suffix)}")
    if any(matcher.label == "le" for matcher in selector.matchers):
        raise ValueError("leave `le` out; `objective` says which bucket edge counts")
    return selector


def _direction(value: object) -> object:
    if value == "either":
        raise ValueError("either way is for gauges; a rate says higher or lower")
    return value


_SELECTOR_SCHEMA = {"type": "string", "pattern": r"^\s*[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{[\s\S]*\})?\s*$"}
PlainSelector = Annotated[Selector, PlainValidator(_selector), WithJsonSchema(_SELECTOR_SCHEMA)]
Histogram = Annotated[Selector, PlainValidator(_histogram), WithJsonSchema(_SELECTOR_SCHEMA)]
Direction = Annotated[Literal["higher", "lower"], BeforeValidator(_direction)]
LabelName = Annotated[str, Field(pattern=f"^{_LABEL}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", max_length=100)]
RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$", max_length=100)]
Text = Annotated[str, Field(min_length=1)]

_OWN_KEYS = {
    "ratio": ("bad", "good", "total"),
    "rate": ("events", "per", "matures", "worse"),
    "latency": ("histogram", "objective"),
    "gauge": ("value", "worse", "across"),
}


class RuleShape(Strict):
    """What a rule of any kind may say."""

    kind: str
    name: RuleName
    title: Text = Field("", description="What people read instead of the name.")
    help: Text = Field("", description="One sentence: what is measured, and what it means for users.")
    measured_in: Text = Field("", description="The unit of one measurement: requests, seconds.")
    margin: Margin | None = Field(None, description="How much worse is tolerable: 50% (relative) or 0.5pp (absolute).")
    regress_margin: Margin = Field(
        default_factory=lambda: (0.0, False), description="How much worse must be proven before `regressed`."
    )
    weight: float = Field(1.0, gt=0, description="The rule's part of the release's error budget.")
    critical: bool = Field(False, description="May kill alone; otherwise two rules must agree.")
    required: bool = Field(True, description="Must be healthy for the release to be healthy.")
    signature: LabelName | None = Field(
        None, description="A value of this label never seen before becomes a stream of its own."
    )
    by: list[LabelName] | None = Field(None, description="Labels that make streams, instead of the pack's.")
    unit: LabelName | None = Field(None, description="Label of one pod or host, instead of the pack's.")

    @model_validator(mode="before")
    @classmethod
    def _keys_belong_to_the_kind(cls, raw: Any) -> Any:
        kind = raw.get("kind") if isinstance(raw, dict) else None
        for key in raw if kind in _OWN_KEYS else ():
            owners = [owner for owner, keys in _OWN_KEYS.items() if key in keys]
            if owners and kind not in owners:
                hint = (
                    "; `bad:` says that higher is worse, `good:` that lower is"
                    if kind == "ratio" and key == "worse"
                    else ""
                )
                raise located(f"does not belong to a {kind} rule, only to {' and '.join(owners)}{hint}", key)
        return raw

    @model_validator(mode="after")
    def _margins_fit(self) -> Self:
        self._check()
        bounded = self.measured()["worse"] is Worse.LOWER
        for key, (margin, absolute) in (
            ("margin", self.margin or (0.1, False)),
            ("regress_margin", self.regress_margin),
        ):
            if absolute and (key == "regress_margin" or self.kind not in ("ratio", "rate")):
                raise located("must be relative here; write a percentage such as 10%", key)
            if margin >= 1 and (absolute or bounded):
                raise located("must be below 100 %: nothing can fall by more, and any loss would pass", key)
            if margin <= 0 and key == "margin":
                raise located("must be greater than 0: no finite traffic proves that nothing changed", key)
        if self.margin and not self.margin[1] and self.regress_margin[0] > self.margin[0]:
            raise located("must not exceed the margin, beyond which nothing is tolerable", "regress_margin")
        return self

    def _check(self) -> None:
        """Raise what is wrong between the keys of one kind."""

    def measured(self) -> dict[str, Any]:
        """Return the fields of `Rule` that depend on the kind."""
        raise NotImplementedError

    def rule(self, pack: RulePackFile) -> Rule:
        """Return the rule, with what it leaves to the pack and to the defaults filled in."""
        measured, kind = self.measured(), Kind(self.kind)
        margin, absolute = self.margin or (_default_margin(kind, measured["worse"]), False)
        return Rule(
            name=self.name,
            kind=kind,
            title=self.title,
            help=self.help,
            measured_in=self.measured_in,
            margin=margin,
            absolute=absolute,
            regress_margin=self.regress_margin[0],
            weight=self.weight,
            critical=self.critical,
            required=self.required,
            by=tuple(pack.by if self.by is None else self.by),
            unit=self.unit or pack.unit,
            signature=self.signature,
            **measured,
        )


def _default_margin(kind: Kind, worse: Worse) -> float:
    if kind in (Kind.LATENCY, Kind.GAUGE):
        return 0.1
    return 0.5 if worse is Worse.HIGHER else 0.02


class RatioShape(RuleShape):
    """One counter, split by outcome: bad or good of total, counted at the same moment."""

    kind: Literal["ratio"]
    bad: PlainSelector | None = Field(None, description="Counter of bad events: higher is worse.")
    good: PlainSelector | None = Field(None, description="Counter of good events: lower is worse.")
    total: PlainSelector = Field(description="Counter of all events, bad and good.")

    def _check(self) -> None:
        if (self.bad is None) == (self.good is None):
            raise located("a ratio needs exactly one of `bad` and `good`", "bad" if self.bad is None else "good")
        key = "good" if self.bad is None else "bad"
        if str(self.bad or self.good) == str(self.total):
            raise located("is the same as `total`: every event would count", key)

    def measured(self) -> dict[str, Any]:
        """Return the fields of `Rule` that depend on the kind."""
        worse = Worse.LOWER if self.bad is None else Worse.HIGHER
        return {"events": self.bad or self.good, "total": self.total, "worse": worse}


class RateShape(RuleShape):
    """Events per exposure, counted at different moments: completions per start."""

    kind: Literal["rate"]
    events: PlainSelector = Field(description="Counter of events, such as completions.")
    per: PlainSelector = Field(description="Counter of what they are counted against, such as starts.")
    matures: Duration = Field(0.0, description="99th percentile of the delay from exposure to event.")
    worse: Direction = "lower"

    def measured(self) -> dict[str, Any]:
        """Return the fields of `Rule` that depend on the kind."""
        return {"events": self.events, "total": self.per, "matures": self.matures, "worse": Worse(self.worse)}


class LatencyShape(RuleShape):
    """Durations in a histogram: the share of requests over an objective."""

    kind: Literal["latency"]
    histogram: Histogram = Field(description="Name of the histogram, without _bucket.")
    objective: Annotated[Duration, Field(gt=0)] = Field(description="What is fast enough: an edge of a bucket.")

    def measured(self) -> dict[str, Any]:
        """Return the fields of `Rule` that depend on the kind."""
        return {"events": self.histogram, "objective": self.objective, "worse": Worse.HIGHER}


class GaugeShape(RuleShape):
    """One measurement per interval."""

    kind: Literal["gauge"]
    value: PlainSelector
    worse: Literal["higher", "lower", "either"]
    across: Literal["median", "mean", "max", "min", "sum"] = Field(
        "median", description="How the series of one stream become one value."
    )

    def measured(self) -> dict[str, Any]:
        """Return the fields of `Rule` that depend on the kind."""
        return {"events": self.value, "across": self.across, "worse": Worse(self.worse)}


def _kind(raw: Any) -> str:
    # The brackets keep the name of a kind apart from a key that somebody wrote.
    return f"<{raw.get('kind') if isinstance(raw, dict) else raw}>"


RuleEntry = Annotated[
    Annotated[RatioShape, Tag("<ratio>")]
    | Annotated[RateShape, Tag("<rate>")]
    | Annotated[LatencyShape, Tag("<latency>")]
    | Annotated[GaugeShape, Tag("<gauge>")],
    Discriminator(_kind),
]


class RulePackFile(Strict):
    """A rule pack: what good looks like, shareable between services."""

    pack: Name
    by: list[LabelName] = Field([], description="Labels that make streams.")
    unit: LabelName | None = Field(None, description="Label of one pod or host: repeated measurement of one arm.")
    rules: list[RuleEntry] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _kinds_are_known(cls, raw: Any) -> Any:
        rules = raw.get("rules") if isinstance(raw, dict) else None
        for index, rule in enumerate(rules if isinstance(rules, list) else ()):
            if not isinstance(rule, dict):
                raise located("expected a mapping with `name` and `kind`", "rules", index)
            kind = rule.get("kind")
            if "kind" not in rule:
                raise located(f"is missing; a rule is one of {', '.join(Kind)}", "rules", index, "kind")
            if kind not in list(Kind):
                raise located(f"expected one of {', '.join(Kind)}{closest(str(kind), Kind)}", "rules", index, "kind")
        return raw

    @model_validator(mode="after")
    def _names_and_labels_are_single(self) -> Self:
        seen: set[str] = set()
        for index, rule in enumerate(self.rules):
            if rule.name in seen:
                raise located(f"{rule.name} is the name of an earlier rule; names are unique", "rules", index, "name")
            seen.add(rule.name)
            self._streams_differ(rule.by, rule.unit or self.unit, "rules", index, "by")
        self._streams_differ(self.by, self.unit, "by")
        return self

    @staticmethod
    def _streams_differ(by: list[str] | None, unit: str | None, *path: Key) -> None:
        for label, count in Counter(by or ()).items():
            if count > 1:
                raise located(f"{label} is given twice", *path)
            if label == unit:
                raise located(f"{label} is the unit: repeated measurement, which makes no streams", *path)
            if label == "le":
                raise located("le is the bucket of a histogram and makes no streams", *path)

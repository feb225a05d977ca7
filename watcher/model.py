"""The nouns of watcher: what flows from a source to an action.

Everything here is a frozen value. Times are epoch seconds (UTC); durations are seconds; shares and relative
margins are fractions. Arrays are float64. This module imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = tuple[tuple[str, str], ...]
"""Label names and values, sorted by name."""


def labels(pairs: Mapping[str, str]) -> Labels:
    """Return a mapping as hashable, sorted labels.

    >>> labels({"version": "1.2", "feature": "checkout"})
    (('feature', 'checkout'), ('version', '1.2'))
    """
    return tuple(sorted(pairs.items()))


class Kind(StrEnum):
    """What a rule measures."""

    RATIO = "ratio"
    """One counter split by outcome: bad (or good) of total, counted at the same moment."""
    RATE = "rate"
    """Events per exposure, where the two are counted at different moments: completions per start."""
    LATENCY = "latency"
    """Durations: the share of requests over an objective."""
    GAUGE = "gauge"
    """One measurement per interval."""


class Worse(StrEnum):
    """The direction of harm."""

    HIGHER = "higher"
    LOWER = "lower"
    EITHER = "either"
    """Nobody says: a change either way is harm."""


class Outcome(StrEnum):
    """What can be said of a stream or of a release."""

    REGRESSED = "regressed"
    INVALID = "invalid"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"
    HEALTHY = "healthy"


class Design(StrEnum):
    """What the treatment is held against."""

    CONCURRENT = "concurrent"
    BEFORE_AFTER = "before_after"


class Strategy(StrEnum):
    """How users become exposed."""

    FLAG = "flag"
    CANARY = "canary"
    BLUE_GREEN = "blue_green"


class Mode(StrEnum):
    """How far watcher may go."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    ARMED = "armed"


_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')
_SELECTOR = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(.*)\})?\s*", re.DOTALL)


@dataclass(frozen=True)
class Matcher:
    """One label matcher of a selector; regular expressions match the whole value."""

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.op}"{escaped}"'

    def matches(self, value: str) -> bool:
        """Tell whether a label value (the empty string when the label is absent) matches."""
        hit = value == self.value if self.op in ("=", "!=") else re.fullmatch(self.value, value) is not None
        return hit == (self.op in ("=", "=~"))


@dataclass(frozen=True)
class Selector:
    """A plain vector selector: a metric name and label matchers, and nothing else of PromQL.

    >>> str(Selector.parse('http_requests_total{code=~"5.."}').where((("job", "shop"),)))
    'http_requests_total{code=~"5..",job="shop"}'
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse a selector.

        Raises:
            ValueError: functions, ranges, arithmetic or a broken matcher; the message says which.
        """
        whole = _SELECTOR.fullmatch(text)
        if whole is None or not whole[1]:
            raise ValueError(
                f'{text!r} is not a plain selector such as requests_total{{code="500"}}; functions, ranges '
                "and arithmetic are left to watcher, which reads raw counters"
            )
        return cls(whole[1], parse_matchers(whole[2] or ""))

    def where(self, pairs: Labels) -> Selector:
        """Return the selector with label equalities added."""
        return replace(self, matchers=self.matchers + tuple(Matcher(name, "=", value) for name, value in pairs))

    def __str__(self) -> str:
        return self.metric + (f"{{{','.join(map(str, self.matchers))}}}" if self.matchers else "")


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Parse the inside of a selector's braces.

    >>> parse_matchers('version="1.2", code!~"4.."')[1].op
    '!~'

    Raises:
        ValueError: text that is not a comma-separated list of label matchers.
    """
    found, at = [], 0
    while text[at:].strip():
        match = _MATCHER.match(text, at)
        if match is None:
            raise ValueError(f'{text[at:].strip()!r} is not a label matcher such as version="1.2"')
        value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match[3])
        found.append(Matcher(match[1], match[2], value))  # type: ignore[arg-type]
        at = match.end()
        if at < len(text):
            if text[at] != ",":
                raise ValueError(f"expected a comma before {text[at:].strip()!r}")
            at += 1
    return tuple(found)


@dataclass(frozen=True)
class Rule:
    """One user-facing metric and what counts as worse.

    `events` is the counter of bad (worse is higher) or good (worse is lower) events of a ratio, the events
    of a rate, the histogram of a latency or the value of a gauge; `total` is what they are counted against
    (None for latency and gauge). `margin` is how much worse is tolerable: relative, or in units of the ratio
    when `absolute`. `regress_margin` is how much worse must be proven before `regressed` (relative).
    """

    name: str
    kind: Kind
    events: Selector
    total: Selector | None = None
    title: str = ""
    help: str = ""
    measured_in: str = ""
    worse: Worse = Worse.HIGHER
    margin: float = 0.5
    absolute: bool = False
    regress_margin: float = 0.0
    weight: float = 1.0
    critical: bool = False
    required: bool = True
    matures: float = 0.0
    objective: float | None = None
    across: Literal["median", "mean", "max", "min", "sum"] = "median"
    by: tuple[str, ...] = ()
    unit: str | None = None
    signature: str | None = None

    @property
    def label(self) -> str:
        """What people read: the title, or the name."""
        return self.title or self.name


@dataclass(frozen=True)
class Stage:
    """A moment at which exposure changed, and the share of users on the release from then on."""

    at: float
    share: float | None = None


@dataclass(frozen=True)
class Release:
    """Users becoming exposed to a change."""

    service: str
    environment: str
    feature: str
    version: str
    strategy: Strategy
    stages: tuple[Stage, ...]
    previous: str | None = None
    reversible: bool = True

    @property
    def id(self) -> str:
        """`service/environment/feature@version`."""
        return f"{self.service}/{self.environment}/{self.feature}@{self.version}"

    @property
    def exposed_at(self) -> float:
        """When users were first exposed."""
        return self.stages[0].at


@dataclass(frozen=True)
class Exposure:
    """Something noticed: users of a feature became exposed, or more of them did (same feature, still on).

    `version` is the version or flag revision the users got; `off` says that exposure ended instead.
    """

    feature: str
    version: str
    at: float
    share: float | None = None
    previous: str | None = None
    off: bool = False
    reversible: bool = True


@dataclass(frozen=True)
class Alpha:
    """Error rates a release may spend, over all its rules, streams, looks and stages.

    `before_after` is that of `regressed` where there is no control: what a few days of history can support.
    """

    regressed: float = 0.01
    before_after: float = 0.05
    healthy: float = 0.05
    split: float = 0.0001


@dataclass(frozen=True)
class Split:
    """How traffic should be split between the arms: `assigned` counts users or sessions, not requests.

    `share` says who knows the configured share: "notice" (the stage, e.g. a flag's rollout percentage) or "switch".
    """

    assigned: Selector
    share: Literal["notice", "switch"] = "notice"


@dataclass(frozen=True)
class Watch:
    """A release being looked at: everything that is fixed before the first look.

    `select` is ANDed into every selector; `baseline` and `treatment` tell the arms apart (None: everybody is
    treatment, held against its own past). `horizon` is how long the watch lasts after exposure. `focus`
    streams must be healthy; the others only guard.
    """

    release: Release
    rules: tuple[Rule, ...]
    select: Labels = ()
    baseline: Labels | None = None
    treatment: Labels | None = None
    block: float = 60.0
    settle: float = 45.0
    warm_up: float = 300.0
    horizon: float = 86_400.0
    history: float = 86_400.0
    alpha: Alpha = Alpha()
    focus: Labels = ()
    zone: str = "UTC"
    """IANA time zone of the days and weeks that users live by."""
    excluded: tuple[tuple[float, float], ...] = ()
    """Stretches of the past that are not what is usual: earlier releases, incidents, holidays."""
    split: Split | None = None
    mode: Mode = Mode.OBSERVE
    switch: str | None = None
    """Key of the kill switch, `name:target`; None when there is none."""
    accepted: Labels = ()
    """Rules whose harm a person accepted as intended, with the reason: they no longer count as regressed."""
    links: Labels = ()

    @property
    def design(self) -> Design:
        """Concurrent when there is a control, before_after otherwise."""
        return Design.BEFORE_AFTER if self.baseline is None else Design.CONCURRENT

    @property
    def alpha_in_effect(self) -> float:
        """The chance of calling a good release regressed: without a control the larger of the two that are set."""
        alone = self.design is Design.BEFORE_AFTER
        return max(self.alpha.regressed, self.alpha.before_after) if alone else self.alpha.regressed


@dataclass(frozen=True)
class Request:
    """What a source is asked for: the blocks that end in (start, end], both multiples of `block`."""

    rules: tuple[Rule, ...]
    start: float
    end: float
    block: float
    select: Labels = ()
    baseline: Labels | None = None
    treatment: Labels | None = None

    @property
    def ends(self) -> Floats:
        """End of every block asked for, shape [block]."""
        return np.arange(self.start + self.block, self.end + self.block / 2, self.block)


@dataclass(frozen=True)
class Arm:
    """One arm of one rule: what was counted, per stream, unit and block.

    `events` and `total` have shape [stream, unit, block]. For counts, `events` of `total` (for latency: requests over
    the objective, of all); a block without samples is zero of zero. For gauges, `events` is the measurement and
    `total` is 1; where `total` is 0 there is a gap, whatever `events` holds. For latency, `buckets` [stream, unit,
    block, bucket] are the requests in each bucket (not cumulative), whose upper edges stand in the Observations;
    None where the source has only the share over the objective. `hollow` [stream, unit, block] tells where a unit
    reported a gauge without a value (NaN): a gap like any other, but no silence; None where nobody knows.
    """

    units: tuple[str, ...]
    events: Floats
    total: Floats
    buckets: Floats | None = None
    hollow: Flags | None = None

    def picked(self, streams: Any = slice(None), blocks: Any = slice(None)) -> Arm:
        """Return some streams and some blocks (indices, masks or slices)."""
        buckets = None if self.buckets is None else self.buckets[streams][:, :, blocks]
        hollow = None if self.hollow is None else self.hollow[streams][:, :, blocks]
        return Arm(self.units, self.events[streams][:, :, blocks], self.total[streams][:, :, blocks], buckets, hollow)

    def of_units(self, names: tuple[str, ...]) -> Arm:
        """Return the arm with exactly these units, in this order; one it does not have is empty. Without buckets."""
        rows = {unit: row for row, unit in enumerate(self.units)}
        pick, missing = np.array([rows.get(name, 0) for name in names]), np.array([name not in rows for name in names])
        events, total = (np.where(missing[:, None], 0.0, each[:, pick]) for each in (self.events, self.total))
        hollow = None if self.hollow is None else self.hollow[:, pick] & ~missing[:, None]
        return Arm(names, events, total, None, hollow)


@dataclass(frozen=True)
class Observations:
    """What one rule saw: the same streams and blocks in both arms. `ends` has shape [block]."""

    streams: tuple[Labels, ...]
    ends: Floats
    treatment: Arm
    baseline: Arm | None = None
    notes: tuple[str, ...] = ()
    """What was odd about the data, for the reader: resets, dropped rows, replicas merged."""
    partial: bool = False
    """The source said that its answer may be incomplete: nothing may be killed on it."""
    edges: tuple[float, ...] = ()
    """Upper edges of the buckets in seconds, ascending, the last infinite; of both arms. () without buckets."""

    def between(self, start: float, end: float) -> Observations:
        """Return the blocks that end in (start, end]."""
        keep = (self.ends > start + 1e-6) & (self.ends <= end + 1e-6)
        return self.picked(keep)

    def picked(self, blocks: Any) -> Observations:
        """Return some blocks (indices, a mask or a slice)."""
        return self._each(lambda arm: arm.picked(blocks=blocks), ends=self.ends[blocks])

    def only(self, stream: Labels) -> Observations:
        """Return one stream of several."""
        return self.of_streams([self.streams.index(stream)])

    def of_streams(self, rows: list[int]) -> Observations:
        """Return some of the streams, by position."""
        return self._each(lambda arm: arm.picked(streams=rows), streams=tuple(self.streams[row] for row in rows))

    def on_edges(self, edges: tuple[float, ...]) -> Observations:
        """Return the same with buckets put together until only these edges are left; () drops the buckets.

        Raises:
            ValueError: an edge that these observations do not have.
        """
        if edges == self.edges:
            return self
        at = [self.edges.index(edge) for edge in edges]

        def merged(arm: Arm) -> Arm:
            if arm.buckets is None or not at:
                return replace(arm, buckets=None)
            cumulative = np.cumsum(arm.buckets, axis=3)[..., at]
            return replace(arm, buckets=np.diff(cumulative, axis=3, prepend=0.0))

        return self._each(merged, edges=edges)

    def then(self, later: Observations) -> Observations:
        """Return these blocks followed by later ones; a stream or unit only one of them knows is empty in the other.

        Buckets are put together until the edges agree; a part in which nothing was counted has no say.
        """
        early, late = self._with_edges_of(later), later._with_edges_of(self)
        common = tuple(edge for edge in early.edges if edge in late.edges)
        early, late = early.on_edges(common), late.on_edges(common)
        streams = tuple(dict.fromkeys(self.streams + later.streams))
        treatment = _glued((early.streams, early.treatment), (late.streams, late.treatment), streams)
        baseline = None
        if early.baseline is not None and late.baseline is not None:
            baseline = _glued((early.streams, early.baseline), (late.streams, late.baseline), streams)
        notes = tuple(dict.fromkeys(self.notes + later.notes))
        ends, partial = np.concatenate([self.ends, later.ends]), self.partial or later.partial
        return Observations(streams, ends, treatment, baseline, notes, partial, common)

    def _with_edges_of(self, other: Observations) -> Observations:
        """Return these observations with empty buckets at the other's edges, if they have none and counted nothing."""
        arms = [arm for arm in (self.baseline, self.treatment) if arm is not None]
        if self.edges or any(arm.total.any() for arm in arms):
            return self
        size = len(other.edges)
        return self._each(
            lambda arm: replace(arm, buckets=np.zeros((*arm.total.shape, size)) if size else None), edges=other.edges
        )

    def _each(self, change: Callable[[Arm], Arm], **changes: Any) -> Observations:
        """Return the observations with both arms changed alike."""
        baseline = None if self.baseline is None else change(self.baseline)
        return replace(self, treatment=change(self.treatment), baseline=baseline, **changes)


def _glued(
    early: tuple[tuple[Labels, ...], Arm], late: tuple[tuple[Labels, ...], Arm], streams: tuple[Labels, ...]
) -> Arm:
    units = tuple(dict.fromkeys(early[1].units + late[1].units))
    place = {stream: row for row, stream in enumerate(streams)}

    def spread(known: tuple[Labels, ...], arm: Arm, values: Floats) -> Floats:
        out = np.zeros((len(streams), len(units), *values.shape[2:]))
        rows, columns = [place[stream] for stream in known], [units.index(unit) for unit in arm.units]
        out[np.ix_(rows, columns)] = values
        return out

    def joined(name: str) -> Floats:
        parts = [spread(known, arm, getattr(arm, name)) for known, arm in (early, late)]
        return np.concatenate(parts, axis=2)

    buckets = None if early[1].buckets is None or late[1].buckets is None else joined("buckets")
    return Arm(units, joined("events"), joined("total"), buckets)


PER_STREAM = (
    "rate", "shape", "scale", "usual", "noise", "unit", "memory", "sigma", "drift", "tail", "level", "spread_lately",
    "beta", "temper", "reached", "unrest", "reports", "continuous",
)  # fmt: skip
_ARRAYS = (*PER_STREAM, "placebos")


@dataclass(frozen=True)
class Calibration:
    """What is learnt of one rule before exposure, and then frozen.

    `dispersion` multiplies the variance of counts: the larger of what halves of the units differ by (`between_units`)
    and what counts vary by over time (`over_time`), each None where it could not be learnt. `spread` is the standard
    deviation of the log rate between units, learnt from `units` of them (0 of 0: unknown). `came_from` says where all
    this was learnt ("history 24h", "file", "assumed"). `margin` is the rule's margin, relative unless the rule's is
    absolute. Of the baseline, per stream: `rate` [stream] events per exposure, and
    for latency `shape` [stream, bucket] requests per bucket, with upper `edges`, the `spreads` of the
    share over each edge and that of the mean log latency (`pace`).

    The rest serves rules judged on a series (gauges, before/after): of logarithms, or of shares of `scale` [stream].
    `usual` [stream, block] is what is expected of each block from the one that ends at `usual_from` on; the control
    counts `beta` [stream] of itself (None: all). Deviations are measured in `unit` [stream], their standard deviation;
    of counts also by `noise` [stream, 2], how many times their chance variance they vary, and the variance of their
    rate itself. `memory` [stream, mean] foretells a deviation, `sigma` [stream] is what is left, `drift` [stream] the
    variance of the level's own error, `tail` [stream, mean] what is remembered at exposure, `level` and
    `spread_lately` [stream] those of the last hours before it. `points` is how many the series had; with none it
    cannot be judged. `temper` [stream, 2] puts the evidence of shifts and of spikes on the scale of placebos, of which
    `apart` do not overlap; `placebos` [placebo] is what each reached over all rules, and `bar` what a release must
    exceed (None: the history supports no such alpha, and the noise model alone decides).

    A gauge judged unit by unit has no level to be held against: its `sigma` is the standard deviation of a unit's
    reading about those of the others, and its `drift` the variance of a fresh unit's own level. Of the baseline's
    units it knows `reports` [stream, unit, 2], blocks in which each reported and in which it did not, and whether
    readings are `continuous` [stream], so that no two are ever alike by chance (1) or not (0).
    """

    streams: tuple[Labels, ...] = ()
    came_from: str = "assumed"
    dispersion: float = 1.0
    assumed: bool = True
    between_units: float | None = None
    over_time: float | None = None
    spread: float = 0.0
    units: int = 0
    margin: float = 0.5
    notes: tuple[str, ...] = ()
    rate: Floats | None = None
    edges: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    pace: float = 0.0
    shape: Floats | None = None
    logarithmic: bool = True
    points: int = 0
    scale: Floats | None = None
    usual: Floats | None = None
    usual_from: float = 0.0
    beta: Floats | None = None
    noise: Floats | None = None
    unit: Floats | None = None
    memory: Floats | None = None
    sigma: Floats | None = None
    drift: Floats | None = None
    tail: Floats | None = None
    level: Floats | None = None
    spread_lately: Floats | None = None
    temper: Floats | None = None
    reached: Floats | None = None
    """What every placebo reached on each stream, [stream, placebo]; not kept once `placebos` are put together."""
    placebos: Floats | None = None
    unrest: Floats | None = None
    """How far the hours before any placebo deviated at most, [stream]."""
    apart: int = 0
    bar: float | None = None
    contaminated: tuple[Labels, ...] = ()
    """Streams whose last hours before exposure were not usual: there is nothing to hold a release against."""
    reports: Floats | None = None
    continuous: Floats | None = None

    def noted(self, note: str) -> Calibration:
        """Return the calibration with a note added."""
        return replace(self, notes=(*self.notes, note))

    def only(self, stream: Labels) -> Calibration:
        """Return what concerns one stream; for a stream that was not there, what concerns all."""
        rows = [self.streams.index(stream)] if stream in self.streams else []
        arrays = {name: getattr(self, name) for name in PER_STREAM}
        kept: dict[str, Any] = {
            name: None if array is None or not rows else array[rows] for name, array in arrays.items()
        }
        return replace(self, streams=(stream,) if rows else (), **kept)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        raw = asdict(self)
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in raw.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """Read back what `to_json` wrote."""
        fields: dict[str, Any] = {
            key: np.asarray(value, dtype=float) if key in _ARRAYS and value is not None else value
            for key, value in raw.items()
        }
        fields["streams"] = as_streams(raw["streams"])
        fields["contaminated"] = as_streams(raw.get("contaminated", ()))
        for name in ("notes", "edges", "spreads"):
            fields[name] = tuple(raw.get(name, ()))
        return cls(**fields)

    @property
    def digest(self) -> str:
        """A short hash of everything that was learnt, shown with every verdict that used it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


def as_streams(raw: Any) -> tuple[Labels, ...]:
    """Read streams back from JSON lists."""
    return tuple(tuple((str(name), str(value)) for name, value in stream) for stream in raw)


@dataclass(frozen=True)
class Effect:
    """Treatment against baseline, with its confidence sequence.

    `measure` is "ratio" (1 is no change) or "difference" of shares (0 is no change). A bound that the data leave open
    is None. `of` names what is compared where that is not the rate or share a rule counts: "typical latency".
    """

    measure: Literal["ratio", "difference"]
    estimate: float | None
    lower: float | None
    upper: float | None
    confidence: float = 0.95
    of: str = ""

    def __str__(self) -> str:
        """Small changes read as percentages, large ones as multiples.

        >>> str(Effect("ratio", 2.14, 1.43, 3.2)), str(Effect("ratio", 0.97, 0.94, 1.01))
        ("2.1 times the baseline's (1.4 to 3.2)", '3.0 % lower than the baseline (-6.0 % to +1.0 %)')
        >>> str(Effect("difference", 0.0087, 0.0063, None)), str(Effect("ratio", 1.2, 1.1, None, of="typical latency"))
        ('0.87 pp higher than the baseline (+0.63 to ? pp)', "typical latency is 1.2 times the baseline's (1.1 to ?)")
        """
        said = self._said()
        return f"{self.of} is {said}" if self.of and self.estimate is not None else said

    def _said(self) -> str:
        if self.estimate is None:
            return "not estimable yet"
        if self.measure == "difference":
            bounds = [_bound(None if x is None else 100 * x, "+.3g") for x in (self.lower, self.upper)]
            side = "higher" if self.estimate >= 0 else "lower"
            return f"{abs(100 * self.estimate):.3g} pp {side} than the baseline ({' to '.join(bounds)} pp)"
        close = all(0.5 < x < 1.5 for x in (self.estimate, self.lower or 0.0, self.upper or 0.0))
        if close:
            low, high = (None if x is None else 100 * (x - 1) for x in (self.lower, self.upper))
            side = "higher" if self.estimate >= 1 else "lower"
            return (
                f"{abs(self.estimate - 1) * 100:.1f} % {side} than the baseline "
                f"({_bound(low, '+.1f', ' %')} to {_bound(high, '+.1f', ' %')})"
            )
        times = f"{self.estimate:.1f}" if 0.95 <= self.estimate < 1.05 else f"{self.estimate:.2g}"
        return f"{times} times the baseline's ({_bound(self.lower, '.2g')} to {_bound(self.upper, '.2g')})"


def _bound(value: float | None, form: str, after: str = "") -> str:
    return "?" if value is None else f"{value:{form}}{after}"


@dataclass(frozen=True)
class Tally:
    """What one arm of one stream has counted so far; for a gauge, `events` is the mean and `total` the points."""

    events: float = 0.0
    total: float = 0.0
    units: int = 0


@dataclass(frozen=True)
class QuantileShift:
    """A quantile of a latency in both arms, in seconds, and the bounds of their ratio (a confidence sequence)."""

    level: float
    baseline: float
    treatment: float
    lower: float | None
    upper: float | None

    @property
    def name(self) -> str:
        """As people write it: p95."""
        return f"p{100 * self.level:g}"

    @property
    def ratio(self) -> float:
        """Treatment over baseline."""
        return self.treatment / self.baseline

    @property
    def seconds(self) -> str:
        """Both, as people say them.

        >>> QuantileShift(0.95, 0.42, 0.6, 1.2, None).seconds
        '600 ms, not 420 ms'
        """
        treatment, baseline = (f"{1000 * x:.3g} ms" if x < 1 else f"{x:.3g} s" for x in (self.treatment, self.baseline))
        return f"{treatment}, not {baseline}"


@dataclass(frozen=True)
class Needs:
    """What an undecided stream is waiting for, and about how long that takes at the present pace.

    `minutes` is the median, `minutes_90` the 90th percentile.
    """

    events: float | None
    minutes: float | None
    limit: Literal["events", "units", "buckets", "placebos", "window"]
    minutes_90: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is said of one stream, and why.

    `decided_at` is the end of the first block at which the outcome was reached. Of a regression that began late,
    `onset` is when it seems to have begun and `since_onset` the treatment's ratio since. `held` counts the latest
    consecutive blocks in which the evidence of regression stood above its threshold. `assumed` is True when the
    dispersion was not learnt from data: nothing may be killed on such a verdict. `quantiles` name what became slower.
    `sick_unit` is the one unit without which most of the evidence is gone, if there is one.
    """

    rule: str
    labels: Labels
    outcome: Outcome
    reason: str
    effect: Effect
    baseline: Tally
    treatment: Tally
    log_e_regressed: float = 0.0
    log_e_healthy: float = 0.0
    threshold: float = 0.0
    decided_at: float | None = None
    onset: float | None = None
    since_onset: float | None = None
    held: int = 0
    needs: Needs | None = None
    assumed: bool = False
    critical: bool = False
    dormant: bool = False
    alarms: tuple[str, ...] = ()
    quantiles: tuple[QuantileShift, ...] = ()
    sick_unit: str | None = None


@dataclass(frozen=True)
class ReleaseVerdict:
    """What is said of a release: the worst of its streams, and the streams."""

    outcome: Outcome
    reason: str
    streams: tuple[Verdict, ...] = ()
    alarms: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alert:
    """Something to tell people. A headline is the one message of a release, edited in place; a detail goes below it."""

    key: str
    release: str
    kind: Literal["headline", "detail"]
    state: str
    """What the release is now: watching, healthy, regressed, killed, no_data ..."""
    title: str
    lines: tuple[str, ...] = ()
    at: float = 0.0
    urgent: bool = False
    links: Labels = ()


@dataclass(frozen=True)
class Kill:
    """Turn the release off."""

    key: str
    release: str
    switch: str
    feature: str
    reason: str
    decided_at: float = 0.0


Action = Alert | Kill


@dataclass(frozen=True)
class Refusal:
    """An action that was considered and not taken, with the interlock that stopped it."""

    action: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Look:
    """The record of one evaluation of a release: kept in the journal and replayable.

    `states` are the evidence states by rule, JSON-able; `observations` are the blocks this look folded.
    """

    release: str
    at: float
    through: float
    """End of the last block folded."""
    blocks: int
    """Blocks counted so far."""
    verdict: ReleaseVerdict
    phase: str = "watching"
    """Where the watch stands after this look: watching, killed, recovered, unrecovered, ended."""
    told: str = ""
    """The state people were last told."""
    killed_at: float | None = None
    """When the kill was decided, if it was."""
    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    states: Mapping[str, Any] = field(default_factory=dict)
    observations: Mapping[str, Observations] = field(default_factory=dict)
    problem: str | None = None
    """Why the source could not be read at this look, if it could not."""

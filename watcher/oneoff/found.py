"""What a comparison found: the verdict, and everything it rests on, for programs and for notebooks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from watcher import reasons
from watcher.comparison import EvidenceState, fold
from watcher.comparison.methods import Methods
from watcher.errors import SourceError
from watcher.evidence.buckets import Buckets, BucketState
from watcher.evidence.quantiles import Quantile
from watcher.judge import ORDER, judge
from watcher.look import Source, look
from watcher.model import Calibration, Observations, Outcome, Rule, Verdict, Watch
from watcher.oneoff.shown import Look
from watcher.report import Findings, Trace, frames, json_report
from watcher.report.cells import MOST_ROWS
from watcher.report.findings import ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 240
"""Points of an effect chart: as many as can be told apart."""

Chart = Literal["effect", "arms", "forest", "shift"]


@dataclass(frozen=True)
class Comparison:
    """The verdict on one release, and everything it rests on. Shows itself in a notebook."""

    findings: Findings
    look: Look

    @property
    def outcome(self) -> Outcome:
        """The worst of the streams."""
        return self.findings.verdict.outcome

    @property
    def reason(self) -> str:
        """One sentence with numbers."""
        return self.findings.verdict.reason

    def explained(self) -> Findings:
        """Return the findings with how the evidence of the worst streams grew: the whole derivation."""
        traces = dict(self.findings.traces)
        for verdict in self.findings.streams[:MOST_ROWS]:
            traces |= self.explained_of(verdict).traces
        return replace(self.findings, traces=traces)

    def explained_of(self, verdict: Verdict) -> Findings:
        """Return the findings with how the evidence of one stream grew, where it was observed."""
        rule = self.findings.rule(verdict.rule)
        seen = None if rule is None else self.findings.observations.get(rule.name)
        if rule is None or seen is None or verdict.labels not in seen.streams:
            return self.findings
        traces = {(verdict.rule, verdict.labels): self.trace(rule, verdict)}
        return replace(self.findings, traces={**self.findings.traces, **traces})

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as `watcher compare --format json` prints it."""
        return json_report.comparison(self.findings)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per stream."""
        return frames.streams(self.findings)

    def chart(self, kind: Chart = "effect", stream: int = 0) -> Figure:
        """Draw the effect over time, both arms, all effects against their margins, or where a latency became slower.

        Args:
            kind: "effect", "arms", "forest" or "shift".
            stream: row of `to_frame()` to draw; the forest shows all.

        Raises:
            ValueError: no such chart, or a shift of what is no latency with whole histograms.
        """
        # Most comparisons draw nothing, and matplotlib takes longer to import than they take.
        from watcher.report import charts, shift_chart

        if kind == "forest":
            return charts.forest(self.findings)
        verdict = self.findings.streams[stream]
        rule = next(rule for rule in self.findings.watch.rules if rule.name == verdict.rule)
        if kind == "arms":
            return charts.arms(self.findings, rule, verdict)
        if kind == "effect":
            return charts.effect(self.findings, rule, verdict, self.trace(rule, verdict))
        if kind == "shift":
            return shift_chart.shift(self.findings, rule, verdict, self.shift(rule, verdict, shift_chart.LEVELS))
        raise ValueError(f"there is no chart {kind!r}: choose effect, arms, forest or shift")

    def trace(self, rule: Rule, verdict: Verdict) -> Trace:
        """Return effect, confidence sequence and evidence of one stream over time."""
        findings = self.findings
        calibration = findings.calibrations[rule.name].only(verdict.labels)
        seen = findings.observations[rule.name].only(verdict.labels).between(self.first, findings.end)
        edges = np.unique(np.linspace(0, seen.ends.size, min(POINTS, seen.ends.size) + 1).astype(int))
        state: EvidenceState | None = None
        points: list[tuple[float, ...]] = []
        for low, high in pairwise(edges):
            part = seen.between(seen.ends[low] - findings.watch.block, seen.ends[high - 1])
            state, evidence = fold(findings.watch, rule, part, calibration, state)
            if evidence.snapshot is None or not evidence.ends.size:
                continue
            (judged,) = judge(findings.watch, rule, evidence)
            values = (np.nan if x is None else x for x in ratios(judged.effect, judged.baseline))
            points.append((float(evidence.ends[-1]), *values, judged.log_e_regressed, judged.log_e_healthy))
        ends, estimate, lower, upper, regressed, healthy = np.array(points, dtype=float).reshape(-1, 6).T
        return Trace(ends, estimate, lower, upper, regressed, healthy, verdict.threshold)

    def shift(self, rule: Rule, verdict: Verdict, levels: Sequence[float]) -> Mapping[float, Quantile]:
        """Return quantiles of a latency in both arms, of the present stage, each with its confidence sequence.

        Raises:
            ValueError: the rule is no latency with whole histograms in two concurrent arms.
        """
        findings = self.findings
        calibration = findings.calibrations[rule.name].only(verdict.labels)
        seen = findings.observations[rule.name].only(verdict.labels).between(self.first, findings.end)
        state, _ = fold(findings.watch, rule, seen, calibration, None)
        for part in state.parts:
            if isinstance(part.state, BucketState):
                method = Methods(findings.watch, rule, calibration).laid_out(part.method, state.streams)
                assert isinstance(method, Buckets)
                return method.quantiles(part.state, 1 - verdict.effect.confidence, levels)
        raise ValueError(f"{rule.name} has no shift: that takes a latency with whole histograms in concurrent arms")

    @property
    def first(self) -> float:
        """Start of the first block after exposure, epoch seconds."""
        watch = self.findings.watch
        return float(np.floor(watch.release.exposed_at / watch.block) * watch.block)

    def _repr_html_(self) -> str:
        from watcher.report import html

        return html.snippet(self.findings)

    def __repr__(self) -> str:
        return f"<Comparison {self.outcome.value}: {self.reason}>"


@dataclass(frozen=True)
class Comparisons(Sequence[Comparison]):
    """Several releases of one table, each judged with an alpha of its own."""

    releases: tuple[Comparison, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the releases."""
        return min((each.outcome for each in self.releases), key=ORDER.index)

    @property
    def reason(self) -> str:
        """How many of the releases that is said of."""
        those = sum(each.outcome is self.outcome for each in self.releases)
        return f"{those} of {len(self)} releases {self.outcome.value}"

    def to_json(self) -> dict[str, Any]:
        """Return all verdicts, as `watcher compare --format json` prints them."""
        return json_report.releases([each.findings for each in self.releases])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per release and stream."""
        parts = [each.to_frame().assign(release=each.findings.watch.release.feature) for each in self.releases]
        return pd.concat(parts, ignore_index=True)

    def __repr__(self) -> str:
        return f"<Comparisons {self.outcome.value}: {self.reason}>"

    def __len__(self) -> int:
        return len(self.releases)

    def __getitem__(self, index: Any) -> Any:
        return self.releases[index]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.releases)


def compare_source(
    watch: Watch,
    source: Source,
    now: float,
    history: Mapping[str, Observations],
    calibrations: Mapping[str, Calibration],
    warnings: Sequence[str] = (),
    began: float | None = None,
    said: bool = True,
) -> Comparison:
    """Judge a release on any source, by one look at every block closed by now.

    Args:
        watch: what to look at.
        source: read for the blocks after exposure.
        now: epoch seconds.
        history: what there was before exposure, by rule, for the reader.
        calibrations: by rule.
        warnings: what to tell the reader beside what the source notes.
        began: monotonic seconds at which work began, for `took_seconds`.
        said: whether anybody said when users were exposed; else it is the first block there is.

    Raises:
        SourceError: the source cannot be read.
    """
    began = time.monotonic() if began is None else began
    found = look(watch, source, calibrations, None, now)
    if found.problem is not None:
        raise SourceError(found.problem)
    seen = {name: history[name].then(each) for name, each in found.observations.items()} or dict(history)
    notes = [note for each in seen.values() for note in each.notes]
    assumed = reasons.assumed({rule.label: calibrations[rule.name].notes for rule in watch.rules})
    findings = Findings(
        watch=watch,
        verdict=found.verdict,
        calibrations=calibrations,
        start=watch.release.exposed_at - watch.history,
        end=found.through,
        blocks=found.blocks,
        took_seconds=time.monotonic() - began,
        warnings=tuple(dict.fromkeys([*warnings, *notes, *assumed])),
        exposed_at=watch.release.exposed_at if said else None,
        observations=seen,
    )
    return Comparison(findings, Look.of(found))

"""Evidence to Verdict, stream by stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from watcher import reasons
from watcher.calibration import signed
from watcher.comparison import CONFIDENCE, Evidence
from watcher.evidence import placebo
from watcher.evidence.absence import FALSE_SILENCE, FIRST_BLOCKS, SCHEDULED, absent, reserved, silent
from watcher.judge.facts import effects_of, needs_of, quantiles_of, sick_unit_of, tallies_of
from watcher.model import Design, Effect, Flags, Floats, Kind, Needs, Outcome, Rule, Tally, Verdict, Watch, Worse

RESERVE = 0.1
"""Share of a rule's alpha kept for streams born during the watch, new error signatures among them."""

OPEN = 10.0
"""Log ratio from which a multiple says no more than "nothing to compare with"."""


def shares(watch: Watch, rule: Rule, streams: int, known: int) -> Floats:
    """Return the part of alpha that each stream of a rule has, [stream]; fixed before the release.

    >>> from watcher.model import Release, Selector, Stage, Strategy
    >>> rule = Rule("errors", Kind.RATIO, Selector("errors"), Selector("requests"))
    >>> release = Release("shop", "production", "checkout", "1", Strategy.FLAG, (Stage(0.0),))
    >>> shares(Watch(release, (rule,)), rule, 2, 2).tolist()
    [0.5, 0.5]
    """
    share = rule.weight / sum(each.weight for each in watch.rules)
    if not rule.by and not rule.signature:
        return np.full(streams, share / max(streams, 1))
    born = np.arange(1.0, max(streams - known, 0) + 1)
    parts = np.concatenate([np.full(known, (1 - RESERVE) / max(known, 1)), RESERVE * reserved(born)])
    return np.asarray(share * parts)


def thresholds(watch: Watch, rule: Rule, streams: int, known: int, bar: float | None = None) -> Floats:
    """Return the evidence each stream of a rule must reach, nats, [stream].

    It is log(1 / alpha) more than the price of the stream's share; where placebos set a `bar`, that takes its place.
    """
    least = -np.log(watch.alpha_in_effect) if bar is None else np.nextafter(bar, np.inf)
    # Where placebos never stirred at all, something still has to.
    return np.asarray(np.maximum(least - np.log(shares(watch, rule, streams, known)), placebo.LEAST))


def judge(watch: Watch, rule: Rule, evidence: Evidence, previous: Sequence[Verdict] = ()) -> tuple[Verdict, ...]:
    """Compare the harm a release did with the harm its rule allows, stream by stream.

    Regressed once the evidence against "not worse than the regress margin" reaches 1/alpha, at whatever block that
    happens, while the estimate lies beyond the margin; healthy while the evidence against "worse than the margin"
    stands at its own threshold; inconclusive until then. Regressed latches.

    Args:
        watch: alpha, design, and what a person accepted.
        rule: margins are relative unless `rule.absolute`.
        evidence: log e-values in nats, arrays [stream, block].
        previous: the verdicts of the last look on this rule, in any order.

    References:
        Ville (1939); Howard et al. (2021), Ann. Statist. 49(2).
    """
    state, bar = evidence.state, evidence.calibration.bar
    if not state.streams:
        return (_nothing(watch, rule, evidence),)
    limits = thresholds(watch, rule, len(state.streams), state.known, bar)
    before = {verdict.labels: verdict for verdict in previous}
    last = [before.get(stream) for stream in state.streams]
    case = _Case(watch, rule, evidence, limits, last)
    facts = _counted(rule, evidence, limits, case.beyond, last)
    return tuple(case.decided(row, verdict) for row, verdict in enumerate(facts))


def _counted(
    rule: Rule, evidence: Evidence, limits: Floats, beyond: Flags, last: Sequence[Verdict | None]
) -> Iterator[Verdict]:
    """Yield the facts of every stream, its outcome still open."""
    snapshot, none = evidence.snapshot, np.zeros(len(limits))
    held, always = beyond[:, ::-1].argmin(axis=1) if beyond.size else none.astype(int), beyond.all(axis=1)
    rows = zip(
        evidence.state.streams,
        effects_of(rule, evidence, limits),
        tallies_of(rule, evidence),
        (none if snapshot is None else snapshot.log_regressed).tolist(),
        (none if snapshot is None else snapshot.log_healthy).tolist(),
        limits.tolist(),
        np.where(always, beyond.shape[1] + np.array([each.held if each else 0 for each in last]), held).tolist(),
        strict=True,
    )
    for row, (labels, effect, (baseline, treatment), log_regressed, log_healthy, limit, blocks) in enumerate(rows):
        yield Verdict(
            rule=rule.name,
            labels=labels,
            outcome=Outcome.INCONCLUSIVE,
            reason="",
            effect=effect,
            baseline=baseline,
            treatment=treatment,
            log_e_regressed=log_regressed,
            log_e_healthy=log_healthy,
            threshold=limit,
            held=blocks,
            assumed=evidence.calibration.assumed,
            critical=rule.critical,
            quantiles=quantiles_of(evidence, row),
            sick_unit=sick_unit_of(evidence, row, limit),
        )


@dataclass(frozen=True)
class _Case:
    """What the streams of a rule are decided by. What concerns them all is worked out once: there may be thousands."""

    watch: Watch
    rule: Rule
    evidence: Evidence
    limits: Floats
    last: Sequence[Verdict | None]

    def decided(self, row: int, verdict: Verdict) -> Verdict:
        """Return a verdict with its outcome and reason."""
        watch, rule, evidence, last = self.watch, self.rule, self.evidence, self.last[row]
        if self.accepted is None:
            if last is not None and last.outcome is Outcome.REGRESSED:
                kept = {
                    name: getattr(last, name) for name in ("outcome", "reason", "decided_at", "onset", "since_onset")
                }
                return replace(verdict, **kept)
            if self.crossed[row]:
                return _regressed(watch, rule, evidence, row, verdict, self.beyond[row], self.margin_said(row))
        if verdict.labels in evidence.calibration.contaminated:
            return replace(verdict, outcome=Outcome.INVALID, reason=reasons.contaminated(rule, verdict.labels))
        if evidence.faults:
            what = reasons.subject(rule, verdict.labels)
            return replace(verdict, outcome=Outcome.INVALID, reason=f"{what}: {'; '.join(evidence.faults)}.")
        if signed(rule, verdict.labels):
            return replace(verdict, reason=reasons.new_signature(rule, verdict), dormant=True)
        absent = self.absent(row, verdict)
        if absent is not None:
            return absent
        what = reasons.subject(rule, verdict.labels)
        if evidence.snapshot is None:
            why = "; ".join(evidence.calibration.notes) or "there is no history to judge it by"
            return replace(verdict, reason=f"{what}: {why}.", needs=Needs(None, None, "window"))
        worse, effect = verdict.log_e_regressed >= verdict.threshold, reasons.effect(rule, verdict)
        since, margin = self.proven[row], self.margin_said(row)
        # What is proven of everybody says next to nothing of the few who have it.
        hidden = watch.dilution < 1
        if since is not None and not hidden:
            confidence = f"{100 * (1 - watch.alpha.healthy):g} %"
            said = f"{'worse, but ' if worse else ''}proven within the margin ({margin}; one-sided, {confidence})"
            return replace(verdict, outcome=Outcome.HEALTHY, decided_at=since, reason=f"{what}: {said}; {effect}.")
        state, needs = "not decided yet", None if hidden else self.needs[row]
        if worse:
            lies = "within the margin" if _estimated(rule, evidence, row) <= self.margin else "its size not settled"
            state = f"worse, {lies} so far"
        state = state if self.accepted is None else f"accepted as intended ({self.accepted})"
        waits = reasons.hidden(watch) if hidden else reasons.waiting(needs)
        return replace(verdict, needs=needs, reason=f"{what}: {state}; {effect}; {waits}.")

    @cached_property
    def accepted(self) -> str | None:
        """Why a person accepted what the rule finds, if one did."""
        return dict(self.watch.accepted).get(self.rule.name)

    @cached_property
    def beyond(self) -> Flags:
        """In which blocks the evidence of harm stood above its threshold, [stream, block]."""
        track = self.evidence.track
        return np.asarray((track.regressed >= self.limits[:, None]) & (track.harm > self.margin))

    @cached_property
    def margin(self) -> float:
        """The harm that is allowed, as it shows in what is measured: less where few users have it."""
        margin, share = self.evidence.margin, self._sharpened
        measure = "ratio" if self.evidence.snapshot is None else self.evidence.snapshot.measure
        if measure == "difference":
            return margin * share
        lower = self.rule.worse is Worse.LOWER
        relative = float(-np.expm1(-margin) if lower else np.expm1(margin)) * share
        if measure == "relative":
            return relative
        return float(-np.log1p(-relative) if lower else np.log1p(relative))

    @property
    def _sharpened(self) -> float:
        """The dilution, where placebos say how far chance goes: no noise model is good enough for so little."""
        return 1.0 if self.evidence.calibration.bar is None else self.watch.dilution

    def margin_said(self, row: int) -> str:
        """Return the margin in words; of a latency, whether it is on the latency or on the share over the objective."""
        evidence, share = self.evidence, self._sharpened
        on_scale = evidence.on_scale is not None and bool(evidence.on_scale[row])
        said = reasons.tolerated(self.rule, evidence.calibration.margin, on_scale)
        return said if share == 1 else f"{said} for the {100 * share:.3g} % of the users who have it"

    @cached_property
    def crossed(self) -> list[bool]:
        """Whether a stream was beyond its threshold at any block, [stream]."""
        return [bool(each) for each in np.asarray(self.beyond.any(axis=1))]

    @cached_property
    def needs(self) -> list[Needs]:
        """What a stream waits for that is not decided, [stream]."""
        return needs_of(self.watch, self.evidence, self.limits)

    @cached_property
    def proven(self) -> list[float | None]:
        """Since when health stands proven, [stream]."""
        return _proven(self.evidence, float(np.log(1 / self.watch.alpha.healthy)), self.last)

    @cached_property
    def quiet(self) -> Flags:
        """Which arms have fallen silent, [stream, arm]."""
        state, gauge = self.evidence.state, self.rule.kind is Kind.GAUGE
        dispersion = SCHEDULED if gauge else self.evidence.calibration.dispersion
        return silent(state.idle, state.tallies[:, [1, 3]], state.blocks, dispersion)

    @cached_property
    def hushed(self) -> list[bool]:
        """Whether any arm has, [stream]."""
        return [bool(each) for each in np.asarray(self.quiet.any(axis=1))]

    def absent(self, row: int, verdict: Verdict) -> Verdict | None:
        """Return the verdict on a stream in which an arm sends nothing; None while both do."""
        watch, rule, evidence = self.watch, self.rule, self.evidence
        unheard = _unheard(watch, rule, evidence, row)
        if not (self.hushed[row] or unheard):
            return None
        quiet, idle, traffic = self.quiet[row], evidence.state.idle[row], evidence.state.tallies[row, [1, 3]]
        if not quiet.any():
            reason = reasons.absent(watch, rule, verdict.labels, "treatment", int(idle[1]))
            return replace(verdict, alarms=("absent_treatment",), reason=reason)
        missing = absent(quiet[None], idle[None])[0]
        alone = watch.design is Design.BEFORE_AFTER
        dormant = bool(quiet.all() or (alone and quiet[1])) and not traffic.any()
        if dormant and not (alone and row < len(evidence.calibration.streams) and evidence.calibration.points):
            what = reasons.subject(rule, verdict.labels)
            text = f"{what}: idle in {'the treatment' if alone else 'both arms'}, so it blocks nothing."
            return replace(verdict, outcome=Outcome.NO_DATA, dormant=True, reason=text)
        which = "treatment" if missing[1] or alone else "baseline" if missing[0] else "both"
        return replace(
            verdict,
            outcome=Outcome.NO_DATA,
            alarms=() if which == "both" or (which == "treatment" and unheard is False) else (f"absent_{which}",),
            reason=reasons.absent(watch, rule, verdict.labels, which, int(idle[quiet].max())),
        )


def _estimated(rule: Rule, evidence: Evidence, row: int) -> float:
    """Return the estimated harm of a stream since exposure, on the scale of the effect."""
    assert evidence.snapshot is not None
    effect = float(evidence.snapshot.estimate[row])
    return {Worse.HIGHER: effect, Worse.LOWER: -effect, Worse.EITHER: abs(effect)}[rule.worse]


def _regressed(
    watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict, beyond: Flags, margin: str
) -> Verdict:
    at = int(beyond.argmax())
    verdict = replace(verdict, outcome=Outcome.REGRESSED, decided_at=float(evidence.ends[at]))
    assert evidence.snapshot is not None
    harm, onset = float(evidence.track.harm[row, at]), float(evidence.track.onset[row, at])
    first = watch.release.exposed_at + watch.warm_up + rule.matures + 2 * watch.block
    # A slow tail feeds its evidence unsteadily, so that what has been since it was last nil is not when it began.
    # Of harm that comes and goes the whole may lie within the margin: what is beyond it is told, too.
    told = onset > first or (evidence.calibration.bar is not None and np.isfinite(onset))
    if told and harm < OPEN and rule.kind is not Kind.LATENCY:
        sign = {Worse.LOWER: -1.0, Worse.HIGHER: 1.0}.get(rule.worse, float(np.sign(evidence.snapshot.estimate[row])))
        measure = evidence.snapshot.measure
        times = max(0.0, 1.0 + sign * harm) if measure == "relative" else float(np.exp(sign * harm))
        verdict = replace(verdict, onset=onset, since_onset=sign * harm if measure == "difference" else times)
    return replace(verdict, reason=reasons.regressed(watch, rule, verdict, margin))


def _unheard(watch: Watch, rule: Rule, evidence: Evidence, row: int) -> bool | None:
    """Tell whether it is no chance that the treatment was never heard of; None where it was, or nobody can know."""
    if evidence.unheard is None or np.isnan(evidence.unheard[row]):
        return None
    share = rule.weight / sum(each.weight for each in watch.rules) / len(evidence.state.streams)
    return bool(evidence.unheard[row] >= -np.log(FALSE_SILENCE * share))


def _nothing(watch: Watch, rule: Rule, evidence: Evidence) -> Verdict:
    """Return the verdict on a rule that no series answers to."""
    early = evidence.state.blocks < FIRST_BLOCKS
    return Verdict(
        rule=rule.name,
        labels=(),
        outcome=Outcome.INCONCLUSIVE if early else Outcome.NO_DATA,
        reason=f"{reasons.subject(rule, ())}: no data in either arm{' yet' if early else ''}.",
        effect=Effect("ratio", None, None, None, CONFIDENCE),
        baseline=Tally(),
        treatment=Tally(),
        critical=rule.critical,
    )


def _proven(evidence: Evidence, proof: float, last: Sequence[Verdict | None]) -> list[float | None]:
    """Return since when health stands proven, by stream; None where it does not.

    A proof stands from the block at which its evidence reaches 1/alpha (Ville: once is enough), the fourth at the
    earliest, until later blocks have used that evidence up, when it has to be earned again.
    """
    before = [each.decided_at if each is not None and each.outcome is Outcome.HEALTHY else None for each in last]
    ends, log_e = evidence.ends, evidence.track.healthy
    if not ends.size:
        return before
    blocks = np.arange(ends.size)
    nth = evidence.state.staged - ends.size + 1 + blocks
    # What was proven at an earlier stage, or has been used up since, does not stand.
    fallen = (log_e < 0) | ((nth == 1) & (evidence.state.stage > 0))
    fell = fallen.any(axis=1)
    first = np.where(fell, ends.size - 1 - fallen[:, ::-1].argmax(axis=1), 0)
    reached = (log_e >= proof) & (nth >= FIRST_BLOCKS) & (blocks >= first[:, None])
    anew = np.where(reached.any(axis=1), ends[reached.argmax(axis=1)], np.nan).tolist()
    return [
        since if since is not None and not lost else (None if np.isnan(at) else at)
        for since, lost, at in zip(before, fell.tolist(), anew, strict=True)
    ]

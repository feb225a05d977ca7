"""Several releases at once, and something got worse: which of them explains it best?

What users feel got worse in space (some units, some arm) and in time (from some moment on). A release explains that as
far as both agree with its own exposure: it cannot explain what began before its exposure; among those that can, the
chance decays with the time since exposure; and harm that only its own treatment shows speaks for it more than harm
that everybody shows, whose cause may be any of them. Harm that its control shows just as much speaks against it.

Where two releases explain it equally well nobody is named: a person has to look.

References:
    Li et al. (2020), Gandalf: An Intelligent, End-To-End Analytics Service for Safe Deployment in Cloud-Scale
    Infrastructure, NSDI: spatial and temporal correlation, and votes that decay with time.

Example:
    Two flags are on. Errors begin eight minutes after the second was turned on, and everybody has them.

    >>> early = Suspect("search@4", 0.0, alarm="regressed", began_at=7680.0, evidence=5.0)
    >>> late = Suspect("checkout@7", 7200.0, alarm="regressed", began_at=7680.0, evidence=2.0)
    >>> found = attribute([early, late])
    >>> found.best, found.ranking[0].reason
    ('checkout@7', 'exposed 8 min before the harm began; everybody shows it, not its own treatment alone')
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from watcher import reasons
from watcher.comparison import EvidenceState
from watcher.model import (
    Arm,
    Calibration,
    Design,
    Floats,
    Kind,
    Observations,
    Outcome,
    ReleaseVerdict,
    Rule,
    Verdict,
    Watch,
    Worse,
)

ABSENCE = "absent_treatment"

FADES = 3600.0
"""Seconds after exposure in which the chance that a release is the cause falls to a third (a factor of e)."""

SLACK = 120.0
"""Seconds by which the estimated beginning of harm may come before an exposure that caused it: two blocks."""

UNDECIDED = float(np.log(2.0))
"""Difference of weight below which two releases explain the harm equally: a factor of two."""

UNPROVEN = float(np.log(4.0))
"""What it costs not to have been shown to be worse: a release to which harm that everybody has may yet belong."""

MOSTLY = 0.5
"""Overlap of a release's units and those with harm from which on the harm counts as its own."""

FEW = 5
"""Blocks that say how much a stream varies, at least."""

LARGEST = 100.0
"""Standard deviations beyond which harm is just large."""

Alarm = Literal["", "regressed", "absent_treatment"]


class Standing(IntEnum):
    """How what is known of the place and the time of harm bears on a release; the higher comes first."""

    IMPOSSIBLE = 0
    """Exposed after the harm began."""
    NOTHING = 1
    """No alarm, and nobody else's harm could be its own."""
    ELSEWHERE = 2
    """Its control shows the harm as well, or the units that show it are not its own."""
    SHARED = 3
    """Everybody shows the harm: it may be this one's."""
    OWN = 4
    """Only its own treatment shows the harm."""


@dataclass(frozen=True)
class Suspect:
    """What is known of a release that users had when something got worse.

    `stages` are later moments at which more users got it. `began_at` is when its own harm seems to have begun (None:
    it shows none), `evidence` how far that harm is proven: nats beyond the threshold of its worst stream. `harm` is the
    largest estimated harm of its streams, in standard deviations of their own past where that is known. `concurrent`
    tells that it is held against a control, `control_harmed` that the control got worse, too (None: nobody knows).
    `units` serve its treatment, as far as units are told apart; `carried` is how far they are the units with harm
    (`overlap`; None: nobody knows), `silent` that of its streams whose treatment sends nothing.
    """

    release: str
    exposed_at: float
    stages: tuple[float, ...] = ()
    alarm: Alarm = ""
    began_at: float | None = None
    evidence: float = -np.inf
    harm: float = 0.0
    concurrent: bool = False
    control_harmed: bool | None = None
    units: tuple[str, ...] = ()
    carried: float | None = None
    silent: float = 0.0

    def last_change(self, moment: float) -> float | None:
        """Return when exposure last grew before a moment (give or take `SLACK`); None where that was only later."""
        past = [at for at in (self.exposed_at, *self.stages) if at <= moment + SLACK]
        return max(past, default=None)


@dataclass(frozen=True)
class Ranked:
    """A release, how well it explains the harm, and why.

    `weight` (nats) ranks those of one standing, `evidence` and then `silent` those of one weight.
    """

    release: str
    standing: Standing
    weight: float
    evidence: float
    silent: float
    reason: str

    @property
    def key(self) -> tuple[int, float, float, float]:
        """What the ranking is by."""
        return int(self.standing), self.weight, self.evidence, self.silent


@dataclass(frozen=True)
class Attribution:
    """Releases, the one that explains the harm best first."""

    ranking: tuple[Ranked, ...]

    @property
    def best(self) -> str | None:
        """The release that explains the harm best; None where none does, or two do equally well."""
        if not self.ranking or self.ranking[0].standing <= Standing.ELSEWHERE:
            return None
        return None if len(self.equals) > 1 else self.ranking[0].release

    @property
    def equals(self) -> tuple[str, ...]:
        """The releases that explain the harm about as well as the first, that one included."""
        first = self.ranking[:1]
        return tuple(
            each.release
            for top in first
            for each in self.ranking
            if each.standing is top.standing and not top.weight - each.weight >= UNDECIDED
        )

    def place(self, release: str) -> int:
        """Return the place of a release, from 1 on; all that stand exactly as it does come before it."""
        own = next(each.key for each in self.ranking if each.release == release)
        return sum(each.key >= own for each in self.ranking)


def attribute(suspects: Sequence[Suspect], apart: bool = False) -> Attribution:
    """Rank releases by how well each explains what got worse.

    Args:
        suspects: the releases that users had.
        apart: each is judged on measurements of its own, which the others do not touch: whoever raised no alarm has
            no part in the others' harm, and is ranked by the largest estimated harm of its own streams.

    Returns:
        All of them, the best explanation first; those that stand equally, in the order given.
    """
    began = [each.began_at for each in suspects if each.alarm and each.began_at is not None]
    shared = None if apart or not began else min(began)
    ranked = [_ranked(each, shared) for each in suspects]
    return Attribution(tuple(sorted(ranked, key=lambda each: each.key, reverse=True)))


def _ranked(suspect: Suspect, shared: float | None) -> Ranked:
    """Rank one release; `shared` is when what all of them may have caused began, where there is such a thing."""

    def ranked(standing: Standing, weight: float, reason: str) -> Ranked:
        return Ranked(suspect.release, standing, weight, suspect.evidence, suspect.silent, reason)

    if not suspect.alarm and shared is None:
        off = f"; its worst stream is {suspect.harm:.1f} standard deviations off" * (suspect.harm > 0)
        return ranked(Standing.NOTHING, suspect.harm, f"no alarm{off}")
    own = _is_own(suspect)
    moment = suspect.began_at if own or shared is None else shared
    moment = suspect.exposed_at if moment is None else moment
    changed = suspect.last_change(moment)
    if changed is None:
        late = reasons.span((suspect.exposed_at - moment) / 60)
        return ranked(Standing.IMPOSSIBLE, 0.0, f"exposed {late} after the harm began")
    waited = max(0.0, moment - changed)
    proof = float(np.log1p(max(0.0, suspect.evidence))) if suspect.alarm else -UNPROVEN
    when = "share raised" if changed > suspect.exposed_at else "exposed"
    time = f"{when} {reasons.span(waited / 60)} before the harm began"
    standing, place = _standing(suspect, own)
    return ranked(standing, proof - waited / FADES, f"{time}; {place}")


def _is_own(suspect: Suspect) -> bool:
    """Tell whether only its own treatment shows the harm."""
    if suspect.control_harmed:
        return False
    if suspect.carried is not None:
        return suspect.carried > MOSTLY
    return suspect.concurrent and bool(suspect.alarm)


def _standing(suspect: Suspect, own: bool) -> tuple[Standing, str]:
    if own and suspect.alarm == ABSENCE:
        return Standing.OWN, "only its own treatment went silent"
    if own and suspect.carried is not None:
        return Standing.OWN, "the units that show the harm are those that have it"
    if own:
        return Standing.OWN, "harm only in its own treatment"
    if suspect.control_harmed:
        return Standing.ELSEWHERE, "but those who do not have it show the harm, too"
    if suspect.carried is not None and suspect.carried <= MOSTLY:
        return Standing.ELSEWHERE, "but the units that show the harm are not those that have it"
    if suspect.concurrent:
        return Standing.ELSEWHERE, "but its treatment is not shown to be worse than its control"
    if not suspect.alarm:
        return Standing.SHARED, "its own harm is not proven, but everybody has it"
    return Standing.SHARED, "everybody shows it, not its own treatment alone"


def overlap(some: Collection[str], others: Collection[str]) -> float:
    """Return how far two sets of units are the same, between 0 and 1.

    >>> overlap({"pod-1", "pod-2"}, {"pod-2"}), overlap({"pod-1"}, {"pod-2"})
    (0.6666666666666666, 0.0)

    References:
        Dice (1945), Ecology 26(3).
    """
    return 2 * len(set(some) & set(others)) / max(len(some) + len(others), 1)


def harmed(watch: Watch, verdict: ReleaseVerdict, states: Mapping[str, Any]) -> frozenset[str]:
    """Return the units of a treatment that are worse than its control, beyond the margin, since harm began.

    Args:
        watch: its rules.
        verdict: of its latest look.
        states: the evidence states of that look, by rule; nothing where they do not tell units apart.
    """
    rules, found = {rule.name: rule for rule in watch.rules}, set()
    for each in verdict.streams:
        rule = rules.get(each.rule)
        if each.outcome is not Outcome.REGRESSED or rule is None or rule.kind is Kind.GAUGE or each.rule not in states:
            continue
        state = EvidenceState.from_json(states[each.rule])
        if state.since is None or each.labels not in state.streams:
            continue
        events, total = state.since[state.streams.index(each.labels), :, :2].T
        rate = np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0)
        side = -1 if rule.worse is Worse.LOWER else 1
        allowed = rate[0] + side * (rule.margin if rule.absolute else rule.margin * rate[0])
        found |= {unit for unit, own in zip(state.suspects, rate[1:], strict=True) if side * (own - allowed) > 0}
    return frozenset(found)


def placed(suspects: Sequence[Suspect], units: Collection[str]) -> list[Suspect]:
    """Return suspects that know how far their units are the ones with harm; some units say nothing of releases."""
    return [replace(each, carried=overlap(each.units, units)) if units and each.units else each for each in suspects]


def units_of(states: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the units that serve a treatment, as the evidence states of its latest look have them."""
    named = [state["suspects"] for state in states.values() if "suspects" in state]
    return tuple(dict.fromkeys(unit for each in named for unit in each))


def suspect(
    watch: Watch,
    verdict: ReleaseVerdict,
    calibrations: Mapping[str, Calibration],
    states: Mapping[str, Any] | None = None,
) -> Suspect:
    """Return what a verdict says of a release as the possible cause.

    Args:
        watch: its design, and when users were exposed.
        verdict: at the latest look, or at the one that raised the alarm.
        calibrations: by rule; how much each stream varied before.
        states: the evidence states of that look, by rule.
    """
    rules, concurrent = {rule.name: rule for rule in watch.rules}, watch.design is Design.CONCURRENT
    streams = [each for each in verdict.streams if each.rule in rules and not each.dormant]
    worst = [each for each in streams if each.outcome is Outcome.REGRESSED]
    top = max(worst, key=lambda each: each.log_e_regressed - each.threshold, default=None)
    alarm: Alarm = "regressed" if verdict.outcome is Outcome.REGRESSED and top else ""
    if not alarm and ABSENCE in verdict.alarms:
        alarm = "absent_treatment"
    judged = [each.log_e_regressed - each.threshold for each in (worst or streams)]
    silent = sum(ABSENCE in each.alarms for each in streams)
    return Suspect(
        release=watch.release.id,
        exposed_at=watch.release.exposed_at,
        stages=tuple(stage.at for stage in watch.release.stages[1:]),
        alarm=alarm,
        began_at=_began(top, watch) if alarm else None,
        evidence=max(judged, default=-np.inf),
        harm=max((standardised(rules[each.rule], each, calibrations.get(each.rule)) for each in streams), default=0.0),
        units=units_of(states or {}),
        concurrent=concurrent,
        control_harmed=control_harmed(rules[top.rule], top, calibrations.get(top.rule)) if top and concurrent else None,
        silent=silent / len(streams) if streams else 0.0,
    )


def _began(top: Verdict | None, watch: Watch) -> float:
    """Return when the harm of the worst stream seems to have begun; of an absence, which names no moment, exposure."""
    if top is None:
        return watch.release.exposed_at
    found = top.onset if top.onset is not None else top.decided_at
    return watch.release.exposed_at if found is None else found


def standardised(rule: Rule, verdict: Verdict, calibration: Calibration | None) -> float:
    """Return the estimated harm of a stream in standard deviations, 0 where nothing is estimated or nothing is worse.

    Those of its own past where that is known, else those of the estimate.
    """
    effect = verdict.effect
    ratio = effect.measure == "ratio"
    if effect.estimate is None or (ratio and effect.estimate <= 0):
        return 0.0
    size = float(np.log(effect.estimate)) if ratio else effect.estimate
    size = {Worse.HIGHER: size, Worse.LOWER: -size, Worse.EITHER: abs(size)}[rule.worse]
    spread = _of_the_past(verdict, calibration, ratio)
    if spread is None:
        # Half of what a bound lies away: a confidence sequence is a little wider than two standard deviations.
        bounds = [each for each in (effect.lower, effect.upper) if each is not None and (each > 0 or not ratio)]
        away = [float(np.log(each / effect.estimate)) if ratio else each - effect.estimate for each in bounds]
        spread = max(map(abs, away), default=0.0) / 2
    return max(0.0, size / spread) if spread > 0 else 0.0


def apparent(rule: Rule, seen: Observations, past: Observations | None) -> float | None:
    """Return the largest harm of the streams of a rule as it appears, in standard deviations of their own past.

    For ranking alone, where nothing can be proven: the mean of the treatment's blocks against half way between that of
    the control's same blocks and that of the past, or what there is of the two. Harm that a fault spreads to the
    control shows against the past, and what is common to all shows less.

    Args:
        rule: what is measured, and which way is worse.
        seen: the blocks since exposure.
        past: those before; where they say nothing, the blocks of the control say how much is usual.

    Returns:
        At least 0; None where no stream has both.
    """
    found = []
    for row, stream in enumerate(seen.streams):
        treated, control = _series(rule, seen.treatment, row), _series(rule, seen.baseline, row)
        before = control[:0]
        if past is not None and stream in past.streams:
            at = past.streams.index(stream)
            arms = [_series(rule, arm, at) for arm in (past.baseline, past.treatment)]
            before = max(arms, key=len)
        against, usual = [each for each in (control, before) if each.size], before if before.size >= FEW else control
        if treated.size and against and usual.size >= FEW:
            level = float(np.mean([each.mean() for each in against]))
            off = float(treated.mean()) - level
            off = {Worse.HIGHER: off, Worse.LOWER: -off, Worse.EITHER: abs(off)}[rule.worse]
            # What never varied may vary a little.
            found.append(max(0.0, off) / max(float(usual.std()), 1e-3 * abs(level), 1e-9))
    return min(max(found), LARGEST) if found else None


def _series(rule: Rule, arm: Arm | None, row: int) -> Floats:
    """Return the value of every block in which there is any, over all units."""
    if arm is None:
        return np.empty(0)
    events, total = arm.events[row], arm.total[row]
    some = (total > 0).any(axis=0)
    return np.asarray(np.where(total > 0, events, 0.0).sum(axis=0)[some] / total.sum(axis=0)[some])


def _of_the_past(verdict: Verdict, calibration: Calibration | None, ratio: bool) -> float | None:
    """Return the standard deviation of a stream's past on the scale of its effect, where both are the same."""
    if calibration is None or calibration.unit is None or verdict.labels not in calibration.streams:
        return None
    if calibration.logarithmic is not ratio:
        return None
    return _row(calibration.unit, calibration, verdict)


def _row(values: Floats, calibration: Calibration, verdict: Verdict) -> float | None:
    found = float(values[calibration.streams.index(verdict.labels)])
    return found if np.isfinite(found) and found > 0 else None


def control_harmed(rule: Rule, verdict: Verdict, calibration: Calibration | None) -> bool | None:
    """Tell whether the control of a stream got worse than its own past, too, by more than the rule allows.

    None where there is no control, or its past is not known.
    """
    if calibration is None or calibration.rate is None or verdict.labels not in calibration.streams:
        return None
    usual, seen = _row(calibration.rate, calibration, verdict), verdict.baseline
    if usual is None or rule.kind is Kind.GAUGE or seen.total <= 0:
        return None
    share = seen.events / seen.total
    # A handful of events says nothing: three standard deviations of chance have to lie beyond the margin.
    chance = 3.0 * float(np.sqrt(usual * seen.total)) / seen.total
    allowed = rule.margin if rule.absolute else calibration.margin * usual
    worse = share - usual if rule.worse is not Worse.LOWER else usual - share
    return worse > allowed + chance


def said(found: Attribution, release: str) -> str:
    """Return what people are told of a release that regressed while others could be the cause; empty without others.

    >>> pair = [Suspect(name, 0.0, alarm="regressed", began_at=600.0) for name in "ab"]
    >>> said(attribute(pair), "a")
    'Also exposed then: b. The evidence does not tell a and b apart: please look before you act.'
    """
    others = [each.release for each in found.ranking if each.release != release]
    if not others:
        return ""
    lead = f"Also exposed then: {', '.join(others)}."
    if found.best is not None:
        # "exposed ..." follows "it was"; a raised share needs words of its own.
        because = found.ranking[0].reason.replace("share raised", "given more users", 1)
        return f"{lead} The evidence points to {found.best}, because it was {because}."
    if len(found.equals) > 1 and found.ranking[0].standing > Standing.ELSEWHERE:
        return f"{lead} The evidence does not tell {' and '.join(found.equals)} apart: please look before you act."
    return f"{lead} The evidence points to none of them: please look before you act."

"""Suspects ranked by how well each explains what got worse, and what people are told of that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

import numpy as np

from watcher import reasons

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
    `off_at` is when users lost it again. `units` serve its treatment, as far as units are told apart; `carried` is how
    far they are the units with harm (`overlap`; None: nobody knows), `silent` that of its streams whose treatment sends
    nothing.
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
    off_at: float | None = None

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


def placed(suspects: Sequence[Suspect], units: Collection[str]) -> list[Suspect]:
    """Return suspects that know how far their units are the ones with harm; some units say nothing of releases."""
    return [replace(each, carried=overlap(each.units, units)) if units and each.units else each for each in suspects]


def gone_since(suspects: Sequence[Suspect], began_at: float) -> list[Suspect]:
    """Return the releases that users lost since some harm began: it may have gone with them; evidence outlives it."""
    return [each for each in suspects if each.off_at is not None and each.off_at > began_at - SLACK]


def said(found: Attribution, release: str, gone: Sequence[Suspect] = ()) -> str:
    """Return what people are told of a release that regressed while others could be the cause; empty without others.

    Of those that are gone since (`gone`), nobody can know yet whether the harm went with them.

    >>> pair = [Suspect(name, 0.0, alarm="regressed", began_at=600.0) for name in "ab"]
    >>> said(attribute(pair), "a")
    'Also exposed then: b. The evidence does not tell a and b apart: please look before you act.'
    >>> said(attribute(pair), "a", [replace(pair[1], off_at=660.0)])
    'Also exposed then: b. The harm may have gone with b (off since 00:11 UTC): please look before you act.'
    """
    others = [each.release for each in found.ranking if each.release != release]
    if not others:
        return ""
    lead = f"Also exposed then: {', '.join(others)}."
    if gone:
        off = " and ".join(f"{each.release} (off since {reasons.clock(each.off_at or 0.0)})" for each in gone)
        return f"{lead} The harm may have gone with {off}: please look before you act."
    if found.best is not None:
        # "exposed ..." follows "it was"; a raised share needs words of its own.
        because = found.ranking[0].reason.replace("share raised", "given more users", 1)
        return f"{lead} The evidence points to {found.best}, because it was {because}."
    if len(found.equals) > 1 and found.ranking[0].standing > Standing.ELSEWHERE:
        return f"{lead} The evidence does not tell {' and '.join(found.equals)} apart: please look before you act."
    return f"{lead} The evidence points to none of them: please look before you act."

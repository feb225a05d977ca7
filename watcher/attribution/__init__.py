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

from watcher.attribution.everywhere import (
    USUAL,
    Elsewhere,
    as_shares,
    control_alike,
    control_silent,
    elsewhere_alike,
    harm_began,
)
from watcher.attribution.ranking import (
    ABSENCE,
    Attribution,
    Ranked,
    Standing,
    Suspect,
    attribute,
    gone_since,
    overlap,
    placed,
    said,
)
from watcher.attribution.suspects import apparent, control_harmed, harmed, standardised, suspect, units_of

__all__ = [
    "ABSENCE",
    "USUAL",
    "Attribution",
    "Elsewhere",
    "Ranked",
    "Standing",
    "Suspect",
    "apparent",
    "as_shares",
    "attribute",
    "control_alike",
    "control_harmed",
    "control_silent",
    "elsewhere_alike",
    "gone_since",
    "harm_began",
    "harmed",
    "overlap",
    "placed",
    "said",
    "standardised",
    "suspect",
    "units_of",
]

"""One p for a whole release: what placebos reached over all its rules and streams, and the bar that sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from watcher.evidence import placebo
from watcher.model import Calibration, Design, Floats, Watch

SURE = 99
"""Placebos that do not overlap, from which a service may be turned off on what they say."""


def together(
    watch: Watch, calibrations: Mapping[str, Calibration], shares: Mapping[str, Floats]
) -> dict[str, Calibration]:
    """Return the calibrations of a release without a control, calibrated on the placebos of all its rules.

    Of every placebo the largest evidence counts, each stream's less the price of its share of alpha.

    Args:
        watch: alpha.
        calibrations: by rule.
        shares: of alpha, by rule, [stream].
    """
    known = {name: each for name, each in calibrations.items() if each.reached is not None and each.reached.size}
    if watch.design is not Design.BEFORE_AFTER or not known:
        return {name: _alone(watch, each) for name, each in calibrations.items()}
    priced = [(each.reached + np.log(shares[name])[:, None]).max(axis=0) for name, each in known.items()]
    reached = np.max(priced, axis=0)
    reached = reached[np.isfinite(reached)]
    apart, alpha = min(each.apart for each in known.values()), watch.alpha_in_effect
    supported = reached.size and 1 / (apart + 1) <= alpha
    bar = placebo.bar(reached, alpha) if supported else None
    if bar is None:
        return {name: _alone(watch, each) for name, each in calibrations.items()}
    return {
        name: replace(each, reached=None, placebos=reached, apart=apart, bar=bar, assumed=apart < SURE)
        for name, each in calibrations.items()
    }


def _alone(watch: Watch, each: Calibration) -> Calibration:
    """Return a calibration whose noise model decides alone, tempered by the few placebos there are."""
    if each.memory is None:
        return replace(each, reached=None)
    temper = np.ones((len(each.streams), 2)) if each.temper is None else np.minimum(each.temper, 1.0)
    temper = np.where(temper > 0, temper, 1.0)
    temper[:, 1] = 0.0
    many = "there is no room for placebos"
    if each.apart:
        many = f"{each.apart} placebos that do not overlap are too few for alpha {100 * watch.alpha_in_effect:g} %"
    why = many if watch.design is Design.BEFORE_AFTER else "noise that is remembered as fitted is assumed"
    said = f"{why}: the noise model alone decides" if watch.design is Design.BEFORE_AFTER else why
    return replace(each, reached=None, temper=temper, bar=None).noted(said)

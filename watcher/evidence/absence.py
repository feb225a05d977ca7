"""Absence: which arms send nothing, and since when that is no longer chance.

An arm without traffic cannot be compared, and a treatment that sends nothing may be one that is down: silence is never
a pass. But an arm with little traffic is silent now and then. How long a silence may last is read from the arm's own
past: of steady Poisson traffic, N events in T blocks, the next d blocks bring nothing with probability
(1 + d / T)^-N, whatever the rate; for a rate well known that is the familiar e^-(rate d).

A silence can begin after any block, and many looks at many silences make some of them long. So each has its own share
of the error rate, 6 / (pi T)^2 of it for the one that begins after the T-th block, and steady traffic is called silent
even once, however long the watch, with probability `FALSE_SILENCE` at most (Bonferroni). The price: after an hour about
13 events must have been missed, after a day 20, where a single silence would ask for 5. An arm with five events a block
pays nothing, since no arm is called silent before its fourth block without traffic. The bound is for one arm of one
stream, and for steady traffic: at night, or once its share is turned down, an arm is called silent too soon. Nothing is
decided for good: with the next event the silence is over.

References:
    Gelman et al. (2013), Bayesian Data Analysis, section 2.6: the gamma-Poisson predictive, here of no events. As a
    bound it is exact for a past that ends with an event, one gap among exchangeable ones; whole blocks only add to it.

Example:
    Three arms with 60 blocks behind them, six of them silent: 200 events a block before, one event every other block,
    and one that never sent anything. The second may well be alive.

    >>> import numpy as np
    >>> idle = np.array([[6.0, 0.0], [6.0, 0.0], [60.0, 0.0]])
    >>> quiet = silent(idle, np.array([[10_800.0, 12_000.0], [27.0, 30.0], [0.0, 5.0]]), blocks=60)
    >>> quiet[:, 0].tolist(), absent(quiet, idle)[:, 0].tolist()
    ([True, False, True], [True, False, True])
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln

from watcher.model import Flags, Floats

FIRST_BLOCKS = 4
"""Blocks without traffic from which silence is an outcome and not a start."""

FEWEST_MISSED = 2
"""Blocks that a fresh unit must have missed before it is surprising."""

FALSE_SILENCE = 0.01
"""Probability that an arm with steady traffic is called silent even once in a watch, at most."""

SCHEDULED = 0.25
"""Dispersion of points that come on a schedule, as those of a gauge do; right where 19 in 20 of them come."""


def reserved(nth: Floats) -> Floats:
    """Return the share of a reserve that the n-th comer gets, counted from 1: 6 / (pi n)^2.

    For what arrives one after the other, nobody knows how many times, such as streams born during a watch (new error
    signatures among them): all shares together are one.

    >>> reserved(np.array([1.0, 2.0, 10.0])).round(3).tolist()
    [0.608, 0.152, 0.006]
    """
    return np.asarray(6.0 / (np.pi * nth) ** 2)


def surprise(reports: Floats, blocks: Floats) -> Floats:
    """Return how surprising it is, in nats, that a fresh unit has never reported, [stream].

    It may be like any of the units that serve the baseline, each equally likely, and such a unit reports in a part of
    the blocks that is known as well as the unit was watched (Beta-binomial, Jeffreys' prior). So units that report
    every minute are missed soon, and units that seldom do are not. Nothing is said before the second block, or of a
    stream whose units never reported.

    >>> always, seldom = [[20.0, 0.0], [19.0, 1.0]], [[5.0, 15.0], [3.0, 17.0]]
    >>> surprise(np.array([always, seldom]), np.array([3.0, 3.0])).round(1).tolist()
    [7.3, 0.7]

    Args:
        reports: blocks before exposure in which each unit of the baseline reported, and did not, [stream, unit, 2].
        blocks: since exposure in which the baseline reported, [stream].

    References:
        Gelman et al. (2013), section 2.6, as above; Jeffreys (1946) for the prior.
    """
    known, n = reports[..., 0] > 0, blocks[:, None]
    spoke, missed = reports[..., 0] + 0.5, reports[..., 1] + 0.5
    chance = np.where(known, np.exp(betaln(missed + n, spoke) - betaln(missed, spoke)), 0.0)
    count = known.sum(axis=1)
    said = (blocks >= FEWEST_MISSED) & (count > 0)
    likely = np.where(said, chance.sum(axis=1) / np.maximum(count, 1), 1.0)
    return np.asarray(-np.log(np.maximum(likely, 1e-300)))


def silent(idle: Floats, traffic: Floats, blocks: Floats | float, dispersion: float = 1.0) -> Flags:
    """Tell which arms have fallen silent, or never spoke: [stream, arm].

    An arm that never had traffic is silent from the fourth block on: it has no past that could excuse it.

    Args:
        idle: latest consecutive blocks without traffic, [stream, arm].
        traffic: exposure so far, same shape.
        blocks: that were counted, one number or [stream, 1], no fewer than any is idle. Of a stream born during the
            watch those before its birth may be among them: its rate then looks too low, which errs towards patience.
        dispersion: variance of the traffic over its mean. 1 is Poisson; larger for events that come in clusters
            (exact for clusters of one size); `SCHEDULED` for a gauge.
    """
    past = np.maximum(blocks - idle, 1.0)
    surprise = traffic / dispersion * np.log1p(idle / past)
    needed = -np.log(FALSE_SILENCE * reserved(past))
    return np.asarray((idle >= FIRST_BLOCKS) & ((traffic == 0) | (surprise >= needed)))


def absent(silent: Flags, idle: Floats) -> Flags:
    """Tell which arms are silent while the other is not, and had traffic meanwhile: [stream, 2], either way round.

    Args:
        silent: as `silent` tells, [stream, 2].
        idle: latest consecutive blocks without traffic, same shape.
    """
    return silent & ~silent[:, ::-1] & (idle[:, ::-1] < idle)

"""One sick unit (a pod, a host) is not a bad release: what is left of the evidence without each of the units.

Pods of a release share its code, so a regression shows on all of them. Before anything is killed, each unit in turn is
left out: if without one of them less than half the evidence is left, that unit is the finding. It is a further
condition on a kill, so it can only cost power, never validity, and the plain approximation will do: half the square of
a standard score is about what a log likelihood ratio says.

References:
    Quenouille (1956), Biometrika 43: leaving one out. Wilks (1938), Ann. Math. Statist. 9(1).

Example:
    Thirty errors against ten: over three units alike, half the evidence stands without any one; on one unit, none.

    >>> import numpy as np
    >>> counts = lambda baseline, *units: np.array([[[e, n, 0, 0] for e, n in (baseline, *units)]], float)
    >>> left(counts((10, 3000), (10, 1000), (10, 1000), (10, 1000)), 1.0, 1).round(1).tolist()
    [[4.0, 4.0, 4.0]]
    >>> left(counts((10, 3000), (24, 1000), (3, 1000), (3, 1000)), 1.0, 1).round(1).tolist()
    [[0.0, 7.2, 7.2]]
"""

from __future__ import annotations

import numpy as np

from watcher.model import Floats

MOST = 64
"""Units of one arm that are told apart."""


def left(since: Floats, dispersion: float, sign: int) -> Floats:
    """Return about the log e that is left without each unit, [stream, unit].

    Args:
        since: of the baseline and then of each unit of the treatment: events, total, and for latencies the sum of log
            latencies and of their squares; shape [stream, 1 + unit, 4].
        dispersion: of the counts.
        sign: +1 when more is worse.
    """
    baseline, treatment = since[:, :1], since[:, 1:]
    rest = treatment.sum(axis=1, keepdims=True) - treatment
    shares = [(x[..., 0] + 0.5) / (x[..., 1] + 1.0) for x in (baseline, rest)]
    noise = sum((1 - np.minimum(p, 1.0)) / (x[..., 0] + 0.5) for p, x in zip(shares, (baseline, rest), strict=True))
    score = sign * np.log(shares[1] / shares[0]) / np.sqrt(np.maximum(dispersion * noise, 1e-300))
    n = [np.maximum(x[..., 1], 1.0) for x in (baseline, rest)]
    means = [x[..., 2] / m for x, m in zip((baseline, rest), n, strict=True)]
    spread = sum((x[..., 3] / m - mean**2) / m for x, m, mean in zip((baseline, rest), n, means, strict=True))
    some = (rest[..., 3] > 0) & (baseline[..., 3] > 0)
    slower = np.where(some, sign * (means[1] - means[0]) / np.sqrt(np.maximum(dispersion * spread, 1e-300)), 0.0)
    return np.asarray(np.where(rest[..., 1] > 0, np.maximum(np.maximum(score, slower), 0.0) ** 2 / 2, 0.0))

"""Past releases for the tests: counts of two arms, and series before and after."""

from __future__ import annotations

import numpy as np
import pandas as pd

EXPOSED = 1_800_000_000.0


def canary(
    release: str, label: int | None, worse: float = 1.0, minutes: int = 60, seed: int = 1, **columns: object
) -> pd.DataFrame:
    """Return an hour of three pods an arm, before which all six served alike for three; 2 % of 200 requests fail."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [np.arange(-180, minutes) + 1, ["baseline", "treatment"], ["a", "b", "c"]], names=["minute", "arm", "unit"]
    )
    frame = index.to_frame(index=False)
    frame["unit"] = frame["arm"].str[0] + frame["unit"]
    frame["requests"] = rng.poisson(200, len(frame))
    hit = (frame["arm"] == "treatment") & (frame["minute"] > 0)
    frame["errors"] = rng.binomial(frame["requests"], 0.02 * np.where(hit, worse, 1.0))
    frame["timestamp"] = EXPOSED + 60.0 * frame.pop("minute")
    return frame.assign(release=release, label=label, exposed_at=EXPOSED, **columns)


def canaries(count: int, worse: float = 3.0, seed: int = 0) -> pd.DataFrame:
    """Return releases, every other one bad, each of its own group of two."""
    parts = [
        canary(f"v{n}", n % 2, worse if n % 2 else 1.0, seed=100 * seed + n, group=f"g{n // 2}") for n in range(count)
    ]
    return pd.concat(parts, ignore_index=True)


def load_times(
    release: str = "v1",
    label: int | None = None,
    worse: float = 1.0,
    hours: float = 1.0,
    history: float = 6.0,
    onset: float = 0.0,
    seed: int = 1,
) -> pd.DataFrame:
    """Return a load time a minute; from `onset` minutes after exposure on it is `worse` times as long."""
    rng = np.random.default_rng(seed)
    minute = np.arange(-round(60 * history), round(60 * hours)) + 1
    load = 1.2 * np.exp(rng.normal(0, 0.04, minute.size)) * np.where(minute > onset, worse, 1.0)
    frame = pd.DataFrame({"timestamp": EXPOSED + 60.0 * minute, "load_time": load})
    return frame.assign(release=release, label=label, exposed_at=EXPOSED)

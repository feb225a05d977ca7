"""How long the page takes its server, with 1,000 past releases and 500 streams, and how much travels.

    python tests/benchmarks/bench_page.py

Asked over loopback, as a browser asks: compressed, one after another; the first time apart from the rest.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

from tests import showroom
from tests.servers.shop import free_port
from watcher.journal import Journal
from watcher.server import serving

PAST, FEATURES, TIMES = 1000, 55, 100


def asked(url: str) -> tuple[float, int]:
    """Return how long an answer took, in milliseconds, and its bytes."""
    began = time.perf_counter()
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip"})) as answer:
        size = len(answer.read())
    return 1000 * (time.perf_counter() - began), size


def main() -> None:
    """Print what each view takes."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        installation = showroom.installed(Path(folder), port)
        with Journal.open(installation.journal) as journal:
            bad = showroom.furnish(journal, PAST, FEATURES)
            views = {
                f"all releases, {PAST} of them past": "/",
                f"a release with {9 * FEATURES + 4} streams": f"/releases/{bad}",
                "the same as JSON": f"/v1/releases/{bad}",
                "a stream": f"/streams/{bad}?rule=completion",
            }
            with serving(installation, journal, lambda: showroom.NOW):
                for name, path in views.items():
                    first, size = asked(f"http://127.0.0.1:{port}{path}")
                    took = [asked(f"http://127.0.0.1:{port}{path}")[0] for _ in range(TIMES)]
                    p50, p99 = np.percentile(took, [50, 99])
                    print(f"{name}: first {first:.0f} ms, then p50 {p50:.0f}, p99 {p99:.0f} ms; {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

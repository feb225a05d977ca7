"""How long a click in Slack waits for its answer, for which Slack gives three seconds.

    python tests/benchmarks/bench_slack.py

Signed requests over loopback, one after another, to a journal with 1,000 past releases: clicks, the first of which
does something, and `/watcher status`. What is said to who clicked comes after the answer, and is not in it.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np

from tests import showroom
from tests.alerts.slack_server import SlackServer
from tests.planted import plant
from tests.servers.shop import free_port
from tests.test_doors import SIGNING, signed_by_slack
from watcher.config import load_installation
from watcher.journal import Journal
from watcher.server import serving

TIMES = 300


def main() -> None:
    """Print what they take."""
    with tempfile.TemporaryDirectory() as folder, SlackServer("#releases") as slack:
        place, port = Path(folder), free_port()
        showroom.installed(place, port)
        plant(place / "token", slack.token)
        plant(place / "signing", SIGNING)
        section = (
            f'slack: {{token_file: token, channel: "#releases", base_url: "{slack.base_url}", '
            "signing_secret_file: signing, users: [U0ANA]}\n"
        )
        file = place / "watcher.yaml"
        file.write_text(section + file.read_text())
        installation = load_installation(file)
        with Journal.open(installation.journal) as journal:
            logging.getLogger("watcher").setLevel(logging.CRITICAL)
            bad = showroom.furnish(journal, 1000, minutes=24)
            with serving(installation, journal):
                for name in ("a click", "/watcher status"):
                    took = [_asked(port, name, bad, nth) for nth in range(TIMES)]
                    p50, p99 = np.percentile(took, [50, 99])
                    print(f"{name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms of the 3,000 that Slack waits")


def _asked(port: int, name: str, release: str, nth: int) -> float:
    action = {"action_id": "watcher:acknowledge", "value": release}
    click = {"type": "block_actions", "user": {"id": "U0ANA"}, "channel": {"id": "C00000001"}, "actions": [action]}
    told = {"payload": json.dumps(click)} if name == "a click" else {"text": "status", "user_id": "U0ANA"}
    body = urlencode({**told, "nth": nth}).encode()
    asked = Request(f"http://127.0.0.1:{port}/v1/slack", body, signed_by_slack(body, time.time()))
    began = time.perf_counter()
    with urlopen(asked) as answer:
        answer.read()
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()

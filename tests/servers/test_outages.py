"""A real Prometheus behind a proxy that fails in every way that servers do: a good release is not turned off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.conftest import Say
from tests.servers.prometheus_server import PrometheusServer

pytestmark = pytest.mark.servers

SCRIPTS = 45
MOST_MIB = 450


def test_forty_five_outages_turn_nothing_off_and_take_little_memory(prometheus: PrometheusServer, say: Say) -> None:
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "tests.servers.outages", prometheus.url, str(SCRIPTS)],
        env={**os.environ, "PYTHONPATH": root},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 0, done.stderr
    assert found["most_mib"] < MOST_MIB
    assert found["looks"] == SCRIPTS * 12
    assert found["unread"] > 200
    assert found["not whole"] > 20
    assert found["no_data"] > 20
    say(f"{SCRIPTS} outages of a real server: {found['unread']} of {found['looks']} looks read nothing, no kill")

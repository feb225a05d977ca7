"""A real Unleash server for tests, with a PostgreSQL of its own; `make servers` installs it into .servers.

with unleash_server.running(tmp_path) as unleash:
    unleash.create("new-checkout", rollout=50)
    ...
    assert unleash.kills("new-checkout") == 1
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from tests.planted import MARK, made_by_others
from tests.servers import postgres_server
from tests.servers.shop import free_port, stop_process

PROGRAM = Path(__file__).resolve().parents[2] / ".servers/unleash/node_modules/unleash-server/dist/server.js"
ENVIRONMENT = "production"


@dataclass(frozen=True)
class UnleashServer:
    """A server that is ready, with one project, `default`, and the environments development and production."""

    url: str
    admin_token: str = f"*:*.{MARK}-of-the-administrators"
    backend_token: str = f"default:{ENVIRONMENT}.{MARK}-of-a-service"
    frontend_token: str = f"default:{ENVIRONMENT}.{MARK}-of-a-page"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the admin API, `path` below /api/admin, and return what it answers."""
        answer = requests.request(
            method, f"{self.url}/api/admin/{path}", json=body, headers={"Authorization": self.admin_token}, timeout=10
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def create(self, feature: str, *strategies: dict[str, Any], on: bool = True, rollout: int = 50) -> None:
        """Create a flag with these strategies (without any: a gradual rollout), and turn it on where that is said."""
        self.call("POST", "projects/default/features", {"name": feature, "type": "kill-switch"})
        for strategy in strategies or (gradual(rollout),):
            self.call("POST", f"{place(feature)}/strategies", strategy)
        if on:
            self.turn_on(feature)

    def turn_on(self, feature: str, environment: str = ENVIRONMENT) -> None:
        self.call("POST", f"{place(feature, environment)}/on")

    def turn_off(self, feature: str, environment: str = ENVIRONMENT) -> None:
        self.call("POST", f"{place(feature, environment)}/off")

    def roll_out(self, feature: str, rollout: int) -> None:
        """Give the one strategy of a flag, a gradual rollout, another percentage."""
        [strategy] = self.call("GET", place(feature))["strategies"]
        self.call("PUT", f"{place(feature)}/strategies/{strategy['id']}", gradual(rollout))

    def archive(self, feature: str) -> None:
        self.call("DELETE", f"projects/default/features/{feature}")

    def is_on(self, feature: str, environment: str = ENVIRONMENT) -> bool:
        return bool(self.call("GET", place(feature, environment))["enabled"])

    def events(self, feature: str) -> list[str]:
        """Return what Unleash logged about a flag, oldest first, as `type environment`."""
        return [f"{event['type']} {event['environment'] or ''}".strip() for event in self._log(feature)]

    def kills(self, feature: str, environment: str = ENVIRONMENT) -> int:
        """Return how often a flag went from on to off."""
        return len(self.turned_off(feature, environment))

    def turned_off(self, feature: str, environment: str = ENVIRONMENT) -> list[float]:
        """Return when a flag went from on to off by Unleash's own log, epoch seconds, oldest first."""
        wanted = ("feature-environment-disabled", environment)
        found = [each["createdAt"] for each in self._log(feature) if (each["type"], each["environment"]) == wanted]
        return [datetime.fromisoformat(at).timestamp() for at in found]

    def _log(self, feature: str) -> list[dict[str, Any]]:
        found = self.call("GET", f"search/events?feature=IS:{feature}&limit=1000")["events"]
        return list(reversed(found))

    def personal_token(self, name: str, role: int) -> str:
        """Add a user with a role (1 admin, 2 editor, 3 viewer), and return a token of theirs."""
        password = f"{MARK}-Correct-horse-7-battery"
        self.call("POST", "user-admin", {"username": name, "password": password, "rootRole": role, "sendEmail": False})
        with requests.Session() as session:
            login = {"username": name, "password": password}
            assert session.post(f"{self.url}/auth/simple/login", json=login, timeout=10).ok
            wish = {"description": "watcher", "expiresAt": "2999-01-01T00:00:00Z"}
            answer = session.post(f"{self.url}/api/admin/user/tokens", json=wish, timeout=10)
            assert answer.status_code == 201, answer.text
            return made_by_others(str(answer.json()["secret"]))


def place(feature: str, environment: str = ENVIRONMENT) -> str:
    return f"projects/default/features/{feature}/environments/{environment}"


def gradual(rollout: int, stickiness: str = "default", **more: Any) -> dict[str, Any]:
    """Return the strategy that lets a percentage of users in."""
    parameters = {"rollout": str(rollout), "stickiness": stickiness, "groupId": "test"}
    return {"name": "flexibleRollout", "parameters": parameters, **more}


def missing() -> str | None:
    """Return why no server can be started, None when one can."""
    if not shutil.which("node"):
        return "Unleash needs node (Node 20 or newer) on the PATH"
    return postgres_server.missing() if PROGRAM.exists() else "Unleash is not installed in .servers (make servers)"


@contextmanager
def running(directory: Path) -> Iterator[UnleashServer]:
    """Start a server that listens on 127.0.0.1 and logs into a directory; stop it at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = UnleashServer(f"http://127.0.0.1:{port}")
    with postgres_server.running() as database, (directory / "unleash.log").open("wb") as log:
        process = subprocess.Popen(
            ["node", str(PROGRAM)],
            stdout=log,
            stderr=log,
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": f"{database}postgres".replace("postgresql://", "postgres://"),
                "DATABASE_SSL": "false",
                "HTTP_HOST": "127.0.0.1",
                "HTTP_PORT": str(port),
                "INIT_ADMIN_API_TOKENS": server.admin_token,
                "INIT_BACKEND_API_TOKENS": server.backend_token,
                "INIT_FRONTEND_API_TOKENS": server.frontend_token,
                "SEND_TELEMETRY": "false",
                "CHECK_VERSION": "false",
                "LOG_LEVEL": "warn",
            },
        )
        try:
            _wait_until_ready(server.url, process, directory / "unleash.log")
            yield server
        finally:
            stop_process(process)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(2400):
        if process.poll() is not None:
            raise RuntimeError(f"Unleash ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            if requests.get(f"{url}/health", timeout=1).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Unleash was not ready within 60 s: {log.read_text()[-2000:]}")

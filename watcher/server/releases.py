"""`POST /v1/releases`: from a request to the journal, where the daemon takes it up at its next tick."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from watcher import deployments, intake
from watcher.config import HttpSettings, Installation, Service
from watcher.journal import Journal
from watcher.model import Deployment
from watcher.server.credentials import require_signature, require_token, require_webhook
from watcher.server.github import DeploymentStatus
from watcher.server.heard import Heard
from watcher.server.incoming import LONGEST, checked, read_body, read_json
from watcher.server.told import Told

log = logging.getLogger("watcher")

AHEAD: Final = 300.0
"""Seconds a clock elsewhere may be ahead of this one."""
OLDEST: Final = 30 * 86_400.0
"""Seconds after which nothing that was released is watched any more."""

TOLD: Final = "POST /v1/releases"
GITHUB: Final = "GitHub deployment"


@dataclass(frozen=True)
class Releases:
    """Takes releases and deployments: in JSON of its own, or in GitHub's."""

    installation: Installation
    settings: HttpSettings
    journal: Journal
    clock: Callable[[], float]
    heard: Heard

    async def post(self, request: Request) -> Response:
        """Answer a request; the journal may let one wait, and meanwhile others are answered."""
        body = await read_body(request)
        return await run_in_threadpool(self._answer, request.headers, body)

    def _answer(self, headers: Headers, body: bytes) -> Response:
        if "webhook-id" in headers:
            return self._signed(headers, body)
        event = headers.get("x-github-event")
        if event is None:
            require_token(self.settings, headers, "releases")
            return self._told(checked(Told, read_json(headers, body)))
        require_signature(self.settings, headers, body)
        raw = read_json(headers, body)
        if event == "ping":
            return _ignored("a ping")
        if event != "deployment_status":
            return _ignored(f"{event[:LONGEST]!r} is no event of a deployment's status")
        return self._from_github(checked(DeploymentStatus, raw))

    def _signed(self, headers: Headers, body: bytes) -> Response:
        now = self.clock()
        message = require_webhook(self.settings, headers, body, now)
        with self.heard.once(message, now):
            return self._told(checked(Told, read_json(headers, body)))

    def _told(self, told: Told) -> Response:
        service = self.installation.services.get(told.service)
        if service is None:
            raise HTTPException(404, f"watcher.yaml has no service {told.service!r}; it has: {self._services()}")
        exposure = told.exposure(self._moment(told.exposed_at, "exposed_at"))
        found = intake.told(self.installation, self.journal, service, exposure, told.strategy, TOLD)
        if found.release is None:
            name = f"{service.name}/{service.environment}/{told.feature}@{told.version}"
            log.info("%s: %s waits for exposure%s", TOLD, name, "" if found.new else " (known already)")
            return JSONResponse({"deployment": name, "waiting_for": "exposure"}, 202)
        log.info("%s: %s%s", TOLD, found.release, "" if found.new else " (known already)")
        return JSONResponse({"release": found.release}, 201 if found.new else 200)

    def _from_github(self, event: DeploymentStatus) -> Response:
        repository = event.repository.full_name
        services = [each for each in self.installation.services.values() if event.is_of(each)]
        if not services:
            problem = f"no service of watcher.yaml is released from {repository!r}; name it as the `repository` of one"
            raise HTTPException(404, f"{problem} (it has: {self._services()})")
        state = event.deployment_status.state
        if state != "success":
            return _ignored(f"the state of the deployment is {state!r}, not 'success'")
        there = [each for each in services if event.is_in(each)]
        if not there:
            known = ", ".join(sorted({each.environment for each in services}))
            return _ignored(f"{repository!r} was deployed to {event.environment!r}; watched there is: {known}")
        at = self._moment(event.deployment_status.created_at, "deployment_status.created_at")
        waiting = [self._deployed(each, event.of(each, at), GITHUB) for each in there]
        return JSONResponse({"deployments": waiting, "waiting_for": "exposure"}, 202)

    def _deployed(self, service: Service, deployment: Deployment, by: str) -> str:
        """Record a version that waits for exposure; return its name."""
        new = deployments.noted(self.journal, service, deployment, by)
        name = f"{service.name}/{service.environment}/{deployment.feature}@{deployment.version}"
        log.info("%s: %s waits for exposure%s", by, name, "" if new else " (known already)")
        return name

    def _moment(self, told: float | None, key: str) -> float:
        """Return when it was, by default now."""
        now = self.clock()
        if told is None:
            return now
        here = f"here it is {dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        if told > now + AHEAD:
            raise HTTPException(422, f"{key}: lies in the future ({here}); check the clock and the time zone")
        if told < now - OLDEST:
            raise HTTPException(422, f"{key}: is more than {OLDEST / 86_400:g} days ago ({here}); too late to watch it")
        return told

    def _services(self) -> str:
        return ", ".join(sorted(self.installation.services))


def _ignored(why: str) -> Response:
    log.info("%s: ignored, %s", GITHUB, why)
    return JSONResponse({"ignored": why})

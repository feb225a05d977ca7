"""`GET /v1/releases`: what the page shows, as JSON for programs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watcher import recorded
from watcher.deeds import deeds
from watcher.journal import Journal, Listed, Watched
from watcher.model import Outcome
from watcher.report.json_report import iso
from watcher.secrets import redacted

MOST: Final = 100
"""Releases in one answer."""


class ListedRelease(BaseModel):
    """A release and how it stands; what a look says is null until there was one. Times are ISO 8601, UTC."""

    model_config = ConfigDict(frozen=True)
    release: str = Field(description="SERVICE/ENVIRONMENT/FEATURE@VERSION")
    status: str = Field(description="active, or how the watch ended.")
    noticed_at: str
    ended_at: str | None
    end_reason: str | None
    looked_at: str | None
    outcome: Outcome | None
    reason: str | None
    phase: str | None


class ReleaseList(BaseModel):
    """Releases, the latest first; `next` is the `before` of the next request, null where there are no more."""

    schema_: Literal["watcher/releases/1"] = Field(default="watcher/releases/1", serialization_alias="schema")
    releases: list[ListedRelease]
    next: int | None


class ReleaseStage(BaseModel):
    """A moment from which the release had a share of the users; null where nobody says which."""

    at: str
    share: float | None


class ReleaseAnswer(BaseModel):
    """All that is known of a release."""

    schema_: Literal["watcher/release/1"] = Field(default="watcher/release/1", serialization_alias="schema")
    release: str
    status: str
    noticed_at: str
    noticed_by: str
    ended_at: str | None
    end_reason: str | None
    strategy: str
    mode: str
    stages: list[ReleaseStage]
    looked_at: str | None
    phase: str | None
    killed_at: str | None
    problem: str | None = Field(description="Why metrics could not be read at the last look.")
    comparison: dict[str, Any] | None = Field(
        description="The verdict, as `watcher compare --format json` prints it: schemas/comparison.schema.json."
    )
    split: str = Field(description="How users are split between the arms, in words.")
    actions: list[dict[str, Any]] = Field(description="What was done, refused and told, oldest first.")
    preflight: dict[str, Any] | None = Field(description="The checklist: schemas/preflight.schema.json.")


@dataclass(frozen=True)
class Api:
    """Answers programs, from the journal alone."""

    journal: Journal

    async def listing(self, request: Request) -> Response:
        """Answer with releases, a page at a time."""
        return await run_in_threadpool(self._listing, request)

    async def release(self, request: Request) -> Response:
        """Answer with one release."""
        return await run_in_threadpool(self._release, request)

    def _listing(self, request: Request) -> Response:
        asked = request.query_params
        active, before = asked.get("active", "true"), number(asked.get("before", ""))
        if active not in ("true", "false"):
            raise HTTPException(422, "active: is true (being watched) or false (the watch is over)")
        if before is None and "before" in asked:
            raise HTTPException(422, "before: is the `next` of the answer before")
        named = asked.get("q", "")[:200]
        found = self.journal.listed(active == "true", MOST + 1, before, named)
        more = found[MOST - 1].n if len(found) > MOST else None
        return _json(ReleaseList(releases=[_listed(each) for each in found[:MOST]], next=more))

    def _release(self, request: Request) -> Response:
        name = request.path_params["release"]
        watched = self.journal.watched(name)
        if watched is None:
            raise HTTPException(404, f"there is no release {name[:200]!r}; GET /v1/releases lists them")
        return _json(_answer(self.journal, watched))


def _answer(journal: Journal, watched: Watched) -> ReleaseAnswer:
    watch, found = watched.watch, recorded.verdict(journal, watched.watch)
    look = None if found is None else found.look
    checks = journal.recall(f"preflight/{watch.release.id}")
    return ReleaseAnswer(
        release=watch.release.id,
        status=watched.status,
        noticed_at=iso(watched.at),
        noticed_by=watched.noticed_by,
        ended_at=iso(watched.ended_at),
        end_reason=watched.end_reason,
        strategy=watch.release.strategy.value,
        mode=watch.mode.value,
        stages=[ReleaseStage(at=iso(stage.at), share=stage.share) for stage in watch.release.stages],
        looked_at=None if look is None else iso(look.at),
        phase=None if look is None else look.phase,
        killed_at=None if look is None else iso(look.killed_at),
        problem=None if look is None else look.problem,
        comparison=None if found is None else found.to_json(),
        split=recorded.split(journal, watch),
        actions=[deed.to_json() for deed in deeds(journal, watch.release.id)],
        preflight=checks if isinstance(checks, dict) else None,
    )


def _listed(each: Listed) -> ListedRelease:
    return ListedRelease(
        release=each.release,
        status=each.status,
        noticed_at=iso(each.at),
        ended_at=iso(each.ended_at),
        end_reason=each.end_reason,
        looked_at=iso(each.looked_at),
        outcome=each.outcome,
        reason=each.reason,
        phase=each.phase,
    )


def number(text: str) -> int | None:
    """Return the number of a release as a request writes it; None where it is none.

    >>> number("41"), number("-1"), number("9" * 99)
    (41, None, None)
    """
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _json(answer: BaseModel) -> Response:
    return Response(redacted(answer.model_dump_json(by_alias=True)), media_type="application/json")


ANSWERS: tuple[type[BaseModel], ...] = (ReleaseList, ReleaseAnswer)
"""What is answered, for the description of the interface."""

"""`GET /openapi.json`: what there is to ask for, for programs that write clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from watcher import __version__
from watcher.server.api import MOST, ReleaseAnswer, ReleaseList
from watcher.server.holding import Wanted
from watcher.server.told import Told

_MODELS: Final[tuple[type[BaseModel], ...]] = (ReleaseList, ReleaseAnswer, Told, Wanted)
_RELEASE: Final = {
    "name": "release",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "SERVICE/ENVIRONMENT/FEATURE@VERSION; its slashes may stand as they are",
}
_TOKEN: Final = [{"token": list[str]()}]


async def described(_: Request) -> Response:
    """Answer with the description."""
    return JSONResponse(description())


def description() -> dict[str, Any]:
    """Return the interface as OpenAPI 3.1."""
    _, schemas = models_json_schema(
        [(model, "serialization" if model in (ReleaseList, ReleaseAnswer) else "validation") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "watcher",
            "version": __version__,
            "description": "Releases being watched: how they stand, and telling of new ones.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong, and how to mend it."}},
}


def _paths() -> dict[str, Any]:
    listed = {
        "operationId": "listReleases",
        "summary": "Releases, the latest first",
        "security": [],
        "parameters": [
            _query("active", {"type": "boolean", "default": True}, "those being watched, or those whose watch is over"),
            _query("q", {"type": "string", "maxLength": 200}, "only those whose name contains it"),
            _query("before", {"type": "integer"}, "`next` of the answer before"),
        ],
        "responses": _answers({"200": (f"{MOST} releases at most", "ReleaseList")}, "422"),
    }
    told = {
        "operationId": "tellRelease",
        "summary": "Tell of a release",
        "security": _TOKEN,
        "requestBody": _body("Told"),
        "responses": _answers(
            {
                "200": ("known already", None),
                "201": ("a release that is new", None),
                "202": ("deployed, and waiting for exposure", None),
            },
            "400", "401", "403", "404", "408", "409", "413", "415", "422", "503",
        ),
    }  # fmt: skip
    one = {
        "operationId": "getRelease",
        "summary": "All that is known of a release",
        "security": [],
        "parameters": [_RELEASE],
        "responses": _answers({"200": ("the release", "ReleaseAnswer")}, "404"),
    }
    pause = {
        "operationId": "pause",
        "summary": "Let watcher do nothing by itself for a while",
        "security": _TOKEN,
        "requestBody": _body("Wanted"),
        "responses": _answers({"200": ("paused", None)}, "401", "403", "422", "503"),
    }
    resume = {
        "operationId": "resume",
        "summary": "End a pause",
        "security": _TOKEN,
        "responses": _answers({"200": ("whether there was one", None)}, "401", "403", "503"),
    }
    return {
        "/v1/releases": {"get": listed, "post": told},
        "/v1/releases/{release}": {"get": one},
        "/v1/pause": {"post": pause},
        "/v1/resume": {"post": resume},
    }


def _query(name: str, schema: Mapping[str, Any], said: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": said}


def _body(model: str) -> dict[str, Any]:
    return {"required": True, "content": _content(model)}


def _content(model: str | None) -> dict[str, Any]:
    schema = {"type": "object"} if model is None else {"$ref": f"#/components/schemas/{model}"}
    return {"application/json": {"schema": schema}}


def _answers(good: Mapping[str, tuple[str, str | None]], *bad: str) -> dict[str, Any]:
    found = {status: {"description": said, "content": _content(model)} for status, (said, model) in good.items()}
    return found | {status: {"description": "the answer says why", "content": _content("Error")} for status in bad}

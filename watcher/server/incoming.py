"""What a request brings, within limits: a body that is small and comes soon, and JSON that is what a model says."""

from __future__ import annotations

import asyncio
import difflib
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, PlainValidator, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from watcher.config import parse_moment

LARGEST: Final = 64 << 10
"""Bytes of a body beyond which it is not read on."""
PATIENCE: Final = 10.0
"""Seconds in which a body must have come."""
LONGEST: Final = 200
"""Characters of a name or a version."""

_WORDS: Final = {
    "missing": "is missing",
    "string_type": "expected text, in quotes",
    "bool_type": "expected true or false",
    "model_type": "expected an object",
}
"""What is wrong, by pydantic's name of it, where its own words do not say it plainly."""

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """Read the body of a request, whoever sends it.

    Raises:
        HTTPException: 413 too large, 408 too slow, 400 the client is gone.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST:
                    problem = f"the body is larger than {LARGEST >> 10} KiB"
                    raise HTTPException(413, problem, {"Connection": "close"})
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {PATIENCE:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client is gone") from None
    return bytes(body)


def read_json(headers: Headers, body: bytes) -> Any:
    """Return a body as JSON.

    Raises:
        HTTPException: 415 it says that it is something else, 400 it is.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "expected JSON: send Content-Type: application/json")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


def checked(model: type[ModelT], raw: Any) -> ModelT:
    """Return what a model makes of JSON.

    Raises:
        HTTPException: 422 with the first key that is wrong, and the fix.
    """
    names = [field.alias or name for name, field in model.model_fields.items()]
    if not isinstance(raw, dict):
        raise HTTPException(422, f"expected a JSON object with {', '.join(names)}")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    problem = _WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, names, n=1)
        problem = f"unknown key; did you mean `{close[0]}`?" if close else f"unknown key; there is: {', '.join(names)}"
    raise HTTPException(422, f"{key[:LONGEST]}: {problem[:1].lower()}{problem[1:]}")


def _word(value: str) -> str:
    if not value.isprintable() or value != value.strip() or not 0 < len(value) <= LONGEST:
        raise ValueError(f"expected 1 to {LONGEST} printable characters, without spaces around them")
    return value


def _moment(value: object) -> float:
    try:
        return parse_moment(value)
    except OverflowError:
        raise ValueError("expected a time such as 2026-11-20T10:00:00Z, or epoch seconds") from None


Word = Annotated[str, AfterValidator(_word)]
"""A name or a version: goes into labels, ids and lines of logs."""
Moment = Annotated[float, PlainValidator(_moment)]
"""Epoch seconds, of a time with its offset."""

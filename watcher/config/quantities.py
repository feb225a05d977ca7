"""Quantities as people write them: `25m`, `50%`, `0.5pp`, `5%`; what they become is seconds and fractions."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

DAY = 86_400.0
"""Seconds."""

DIRECTIONS = ("higher", "lower", "either")
"""Which way is worse."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}
_DURATION = r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)"
_PERCENT = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(%|pp)")


def parse_duration(value: object) -> float:
    """Return seconds of `60s`, `25m`, `1h30m`, `28d`; a plain number is seconds.

    >>> parse_duration("25m"), parse_duration("2.5s"), parse_duration(60)
    (1500.0, 2.5, 60.0)

    Raises:
        ValueError: anything else, and what is negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and re.fullmatch(f"({_DURATION})+", value):
        return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_DURATION, value))
    raise ValueError(f"expected a duration such as 60s, 25m, 24h or 28d, found {value!r}")


def parse_moment(value: object) -> float:
    """Return epoch seconds of `2026-11-20T10:00:00Z`, of an aware datetime, or of epoch seconds.

    >>> parse_moment("2026-11-20T10:00:00Z"), parse_moment("1795168800")
    (1795168800.0, 1795168800.0)

    Raises:
        ValueError: anything else, and a time without an offset.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        parsed = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if not isinstance(parsed, dt.datetime):
        raise ValueError(f"expected a time such as 2026-11-20T10:00:00Z, or epoch seconds, found {value!r}")
    if parsed.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; write 2026-11-20T10:00:00Z or another offset")
    return parsed.timestamp()


def parse_margin(value: object) -> tuple[float, bool]:
    """Return a margin as a fraction, and whether it is absolute (percentage points).

    >>> parse_margin("50%"), parse_margin("0.5pp")
    ((0.5, False), (0.005, True))

    Raises:
        ValueError: anything else, and what is negative.
    """
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected a percentage such as 10%, or percentage points such as 0.5pp, found {value!r}")
    if float(found[1]) < 0:
        raise ValueError(f"must not be negative, found {value}; `worse` says which way is harm")
    return float(found[1]) / 100, found[2] == "pp"


def parse_share(value: object) -> float:
    """Return a share of users, `5%`, as a fraction.

    >>> parse_share("5%")
    0.05

    Raises:
        ValueError: anything else, and what is not between 0 and 100 %.
    """
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] != "%" or not 0 <= float(found[1]) <= 100:
        raise ValueError(f"expected a share from 0% to 100%, found {value!r}")
    return float(found[1]) / 100


def parse_worse(value: object) -> tuple[str, str]:
    """Return which metrics a direction of harm is said of, as a glob, and the direction; one alone is said of all.

    >>> parse_worse("lower"), parse_worse("*success_pct=lower")
    (('*', 'lower'), ('*success_pct', 'lower'))

    Raises:
        ValueError: anything else.
    """
    glob, equals, side = value.rpartition("=") if isinstance(value, str) else ("", "", "")
    if side not in DIRECTIONS or bool(equals) != bool(glob):
        raise ValueError(f"expected {', '.join(DIRECTIONS)}, or one of them for some metrics (GLOB=lower): {value!r}")
    return glob or "*", side


def duration_text(seconds: float) -> str:
    """Write seconds as people write durations.

    >>> duration_text(1500.0), duration_text(2.5)
    ('25m', '2.5s')
    """
    unit = next((unit for unit in ("d", "h", "m") if seconds and seconds % _SECONDS[unit] == 0), "s")
    return f"{seconds / _SECONDS[unit]:.6g}{unit}"


Duration = Annotated[
    float,
    PlainValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^({_DURATION})+$"}]}),
]
_PERCENT_SCHEMA = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(%|pp)$"}
Margin = Annotated[tuple[float, bool], PlainValidator(parse_margin), WithJsonSchema(_PERCENT_SCHEMA)]


def parse_zone(value: object) -> str:
    """Return the name of a time zone.

    >>> parse_zone("Europe/Berlin")
    'Europe/Berlin'

    Raises:
        ValueError: no such zone, or none this machine knows.
    """
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone is called {value!r}; write an IANA name such as Europe/Berlin") from error
    return str(value)


def parse_interval(value: object) -> tuple[float, float]:
    """Return a stretch of time, `FROM/TO`, as epoch seconds.

    >>> parse_interval("1970-01-01T00:00:00Z/1970-01-01T01:00:00Z")
    (0.0, 3600.0)

    Raises:
        ValueError: not two moments, or in the wrong order.
    """
    start, slash, end = str(value).partition("/")
    if not slash:
        raise ValueError(f"expected FROM/TO, two times with their offsets, found {value!r}")
    found = parse_moment(start), parse_moment(end)
    if found[0] >= found[1]:
        raise ValueError(f"ends before it begins: {value!r}")
    return found


def parse_local_day(value: object, zone: str) -> tuple[float, float]:
    """Return a day of a time zone as epoch seconds: 23 or 25 hours where the clocks change.

    >>> start, end = parse_local_day("2026-10-25", "Europe/Berlin")
    >>> (end - start) / 3600
    25.0

    Raises:
        ValueError: not a date.
    """
    try:
        day = dt.date.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError(f"expected a day such as 2026-12-25, found {value!r}") from error
    where = ZoneInfo(zone)
    try:
        start, end = (dt.datetime.combine(each, dt.time(), where) for each in (day, day + dt.timedelta(days=1)))
        return start.timestamp(), end.timestamp()
    except OverflowError as error:
        raise ValueError(f"expected a day such as 2026-12-25, found {value!r}") from error


def _day(value: object) -> str:
    parse_local_day(value, "UTC")
    return str(value)


def _interval(value: object) -> str:
    parse_interval(value)
    return str(value)


Zone = Annotated[str, BeforeValidator(parse_zone)]
LocalDay = Annotated[str, BeforeValidator(_day)]
Interval = Annotated[str, BeforeValidator(_interval)]

"""Answers of the Prometheus API, decoded straight into arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from watcher.model import Floats
from watcher.sources.counters import SampleSet
from watcher.sources.native import NativeSet, Sparse

_SERIES, _VALUES, _CLOSE = b'{"metric":', b'},"values":[[', b"]]}"
_PIECE = 1 << 18
"""Bytes of numbers that are read in one go."""


class NativeHistogram(ValueError):
    """A series came as a native histogram; the text is the metric's name."""


class NoHistogram(ValueError):
    """Where native histograms were expected, there are plain numbers."""


class ServerError(ValueError):
    """The answer is well-formed and says that there was an error."""


def joined(parts: list[SampleSet]) -> SampleSet:
    """Put answers for consecutive times together, series by series."""
    if len(parts) == 1:
        return parts[0]
    if parts and all(part.labels == parts[0].labels for part in parts):
        return _abreast(parts)
    rows: dict[frozenset[tuple[str, str]], tuple[Mapping[str, str], list[Floats], list[Floats]]] = {}
    for part in parts:
        for i, labels in enumerate(part.labels):
            own = slice(int(part.offsets[i]), int(part.offsets[i + 1]))
            _, times, values = rows.setdefault(frozenset(labels.items()), (labels, [], []))
            times.append(part.times[own])
            values.append(part.values[own])
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings)
    whole = ((labels, np.concatenate(times), np.concatenate(values)) for labels, times, values in rows.values())
    return SampleSet.of(whole, tuple(warnings))


def _abreast(parts: list[SampleSet]) -> SampleSet:
    """Put answers together that have the same series in the same order, as most have."""
    order = np.argsort(np.concatenate([part.owners for part in parts]), kind="stable")
    times, values = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("times", "values"))
    warnings = dict.fromkeys(warning for part in parts for warning in part.warnings)
    offsets = np.sum([part.offsets for part in parts], axis=0).astype(np.intp)
    return SampleSet(parts[0].labels, times, values, offsets, tuple(warnings))


def scan(body: bytes) -> SampleSet | None:
    """Decode a matrix by scanning for its series: only labels go through a JSON parser.

    The marks searched for cannot lie inside a label, because a quote inside a JSON string is escaped.

    Returns:
        None for anything of another shape (vectors, native histograms, other key orders, damage): see `read_json`.
    """
    first = body.find(_SERIES)
    if first < 0 or b'"resultType":"matrix"' not in body[:first]:
        return None
    found, texts, at = [], [], first
    while body.startswith(_SERIES, at):
        cut = body.find(_VALUES, at)
        stop = body.find(_CLOSE, cut)
        if cut < 0 or stop < 0:
            return None
        texts.append(body[cut + len(_VALUES) : stop])
        try:
            found.append(_labels(body[at + len(_SERIES) : cut + 1]))
        except ValueError:
            return None
        at = stop + len(_CLOSE)
        if body.startswith(b",", at):
            at += 1
    try:
        around = json.loads(body[:first] + body[at:])
    except ValueError:
        return None
    numbers = _numbers_of(texts)
    if numbers is None or around.get("status") != "success":
        return None
    offsets = np.cumsum([0, *(text.count(b"[") + 1 for text in texts)]).astype(np.intp)
    return SampleSet(tuple(found), numbers[0::2].copy(), numbers[1::2].copy(), offsets, _warnings(around))


@lru_cache(maxsize=1 << 16)
def _labels(text: bytes) -> Mapping[str, str]:
    """Read the labels of a series: the same object for the same text, as series come again with every block."""
    found: dict[str, str] = json.loads(text)
    return found


def _numbers_of(texts: Sequence[bytes]) -> Floats | None:
    """Read the numbers of several series, as many at a time as make a call worth it."""
    parts: list[Floats] = []
    at = 0
    while at < len(texts):
        until, size = at, 0
        while until < len(texts) and size < _PIECE:
            size += len(texts[until])
            until += 1
        numbers = _numbers(b"],[".join(texts[at:until]))
        if numbers is None:
            return None
        parts.append(numbers)
        at = until
    return np.concatenate(parts)


def _numbers(text: bytes) -> Floats | None:
    """Read `60,"1"],[120,"NaN"` as 60, 1, 120, nan; None when it is anything else."""
    if text.translate(None, b'0123456789.,+-eEInfNa"[]'):
        return None
    try:
        numbers = _whole_numbers(text)
        if numbers is None:
            numbers = np.fromstring(text.translate(None, b'"[]'), sep=",")
    except ValueError:
        return None
    # Older numpy stops without an error at what it cannot read; the count shows it.
    return numbers if numbers.size == text.count(b'"') == 2 * (text.count(b"[") + 1) else None


def _whole_numbers(text: bytes) -> Floats | None:
    """Read counts stamped with whole seconds or with milliseconds, seven times as fast as floats; None for the rest."""
    if text.translate(None, b'0123456789.,"[]'):
        return None
    letters = np.frombuffer(text + b"     ", dtype=np.uint8)
    dots = np.flatnonzero(letters == ord("."))
    in_stamps = (letters[dots + 4] == ord(",")) & (letters[dots + 5] == ord('"'))
    if dots.size not in (0, text.count(b"[") + 1) or not in_stamps.all():
        return None
    whole = np.fromstring(text.translate(None, b'".[]'), dtype=np.int64, sep=",")
    if not whole.size or whole.max() >= 1 << 62:
        return None
    numbers = whole.astype(np.float64)
    if dots.size:
        numbers[0::2] /= 1000.0
    return numbers


def read_json(body: bytes) -> SampleSet:
    """Decode any answer the plain way.

    Raises:
        NativeHistogram, ServerError: the answer says so.
        ValueError: not JSON, or not the shape of an answer.
    """
    answer = _success(json.loads(body))
    try:
        kind, found = answer["data"]["resultType"], answer["data"]["result"]
        rows = [({}, [found])] if kind in ("scalar", "string") else [_row(item) for item in found]
        series = [(labels, [p[0] for p in points], [float(p[1]) for p in points]) for labels, points in rows]
    except (KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("not the shape of an answer") from None
    return SampleSet.of(series, _warnings(answer))


def _row(item: Mapping[str, Any]) -> tuple[dict[str, str], list[Any]]:
    if "histogram" in item or "histograms" in item:
        raise NativeHistogram(item["metric"].get("__name__", "this metric"))
    return item["metric"], item["values"] if "values" in item else [item["value"]]


def read_native(body: bytes) -> NativeSet:
    """Decode a matrix of native histograms.

    Raises:
        NoHistogram: there are samples, and none is a histogram.
        ServerError: the answer says so.
        ValueError: not JSON, or not the shape of an answer.
    """
    answer = _success(json.loads(body, object_hook=_sparse))
    try:
        found = answer["data"]["result"]
        rows = [(item["metric"], item["histograms"]) for item in found if "histograms" in item]
        series = [(labels, [at for at, _ in points], [_histogram(h) for _, h in points]) for labels, points in rows]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not the shape of an answer") from None
    if found and not rows:
        raise NoHistogram
    return NativeSet.of(series, _warnings(answer))


def _sparse(found: dict[str, Any]) -> Any:
    """Turn a histogram into arrays as soon as it was read, so that a long answer is never there as objects."""
    return _histogram(found) if isinstance(found.get("buckets"), list) else found


def _histogram(found: Sparse | Mapping[str, Any]) -> Sparse:
    if isinstance(found, Sparse):
        return found
    return Sparse(float(found["count"]), np.array(found.get("buckets", ()), dtype=np.float64).reshape(-1, 4))


def _success(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        raise ValueError("not an answer of the Prometheus API")
    if answer["status"] == "error":
        raise ServerError(answer.get("error", ""))
    return answer


def _warnings(answer: Mapping[str, Any]) -> tuple[str, ...]:
    said = [str(warning) for warning in answer.get("warnings") or ()]
    if answer.get("isPartial"):
        said.append("the answer is partial: a storage node did not answer")
    return tuple(said)

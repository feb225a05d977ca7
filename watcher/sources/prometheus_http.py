"""Asking a Prometheus-compatible server, and decoding its answers straight into arrays.

`prometheus_api_client.PrometheusConnect` supplies the connection, its credentials and its retries. The reads
themselves are sent here, through the same session, because answers must be bounded in bytes, series and time, keep
what the server says about them, and hold no object per sample.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from watcher.errors import ConfigError, SourceDown, SourceRefused, SourceTooLarge
from watcher.model import Floats
from watcher.sources.counters import Mask, SampleSet
from watcher.sources.native import NativeSet, together
from watcher.sources.prometheus_json import (
    NativeHistogram,
    NoHistogram,
    ServerError,
    joined,
    read_json,
    read_native,
    scan,
)

DAY = 86_400.0
_PROMPT = 3.0
"""Seconds for what costs the server nothing, and what a step waits for."""

_MOST_POINTS = 10_000
"""Points a series may have in one range query; servers refuse more than 11,000."""
_MOST_SAMPLES = 8_000_000
"""Points all parts of a range query may have together (128 MB decoded)."""
_WORDS = 1 << 16
"""Bytes of an answer that says no which are searched for secrets before its first words are repeated."""
_PASSING = frozenset({"unavailable", "internal", "canceled"})
"""Error types of the Prometheus API that are about the server's state, not about the question."""


class _Decoded(Protocol):
    """What an answer was decoded into: series, with so many samples or buckets altogether."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_Decoded)


class TooManySeries(SourceTooLarge):
    """The answer has more series than the cap; asking for a shorter time does not help."""


class PrometheusHTTP:
    """A client that never waits for ever, never follows elsewhere, and never says a secret.

    Args:
        url: http or https, with the path prefix if there is one. `user:password@` in it becomes basic auth.
        auth: user and password. bearer: token. headers: sent with every request (a tenant, for example).
        ca_bundle: file with the certificates to trust instead of the system's.
        deadline: seconds one read may take from question to last byte.
        max_bytes, max_series: caps on one answer.

    Raises:
        ConfigError: an address or a header that cannot be used.
        SourceDown, SourceRefused, SourceTooLarge: by every read; see watcher.errors.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | None = None,
        bearer: str | None = None,
        ca_bundle: str | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = 30.0,
        max_bytes: int = 64 * 2**20,
        max_series: int = 10_000,
    ) -> None:
        self.url, found = _without_userinfo(url)
        auth = auth or found
        self.deadline, self.max_bytes, self.max_series = deadline, max_bytes, max_series
        self._secrets = _secrets(auth, bearer, headers or {})
        if ca_bundle and not Path(ca_bundle).exists():
            raise ConfigError(f"there is no certificate file {ca_bundle}")
        self._session = requests.Session()
        self._session.verify = ca_bundle or True
        self._auth = _credentials(auth, bearer)
        # gzip costs a Prometheus server eight times the transfer it saves on a local network.
        self._headers = {**_checked(headers or {}), "Accept-Encoding": "identity"}
        # Only refused connections are tried again: a query that was too slow would be too slow four times.
        patience = Retry(
            total=3, connect=3, read=False, redirect=0, status=0, backoff_factor=0.05, raise_on_status=False
        )
        self._connect = PrometheusConnect(
            self.url, headers=self._headers, auth=self._auth, retry=patience, session=self._session, timeout=deadline
        )

    def close(self) -> None:
        """Close the connections."""
        self._connect.close()

    def samples(self, selector: str, start: float, end: float) -> SampleSet:
        """Return the raw samples of (start, end]: no look-back, no steps, stale markers left out.

        Servers differ in whether a range includes its start; here it never does.
        """
        whole = self.instant(f"{selector}[{milliseconds(end - start)}]", end)
        return whole.keep(_inside(whole.times, start, end))

    def native_samples(self, selector: str, start: float, end: float) -> NativeSet:
        """Return the native histograms of (start, end], as `samples`.

        Raises:
            SourceRefused: there are samples, and none is a histogram.
        """
        query = f"{selector}[{milliseconds(end - start)}]"
        whole = self._ask("/api/v1/query", {"query": query, "time": _stamp(end)}, query, read_native)
        return whole.keep(_inside(whole.totals.times, start, end))

    def instant(self, query: str, at: float) -> SampleSet:
        """Return the answer of an instant query: one sample a series for a vector, a scalar as one bare series."""
        return self._ask("/api/v1/query", {"query": query, "time": _stamp(at)}, query, _numbers_in)

    def clock(self) -> float:
        """Return what time it is by the server's clock, in epoch seconds."""
        # nocache: VictoriaMetrics otherwise answers as of half a minute ago.
        form = {"query": "time()", "nocache": "1"}
        found = self._ask("/api/v1/query", form, "time()", _numbers_in, min(_PROMPT, self.deadline))
        if found.values.size != 1:
            raise SourceRefused(f"{self.url} does not say what time it is when asked for time()")
        return float(found.values[0])

    def values_range(self, query: str, start: float, end: float, step: float) -> SampleSet:
        """Evaluate a query at start + step, start + 2 step, ... end, a day at a time.

        Cutting by days stays below the points a server allows a series, and below the caps of one answer.
        """
        return joined(list(self._pieces(query, start, end, step, _numbers_in, DAY)))

    def native_range(self, query: str, start: float, end: float, step: float) -> NativeSet:
        """Evaluate a query that gives native histograms, as `values_range`, two hours at a time: they are long."""
        return together(list(self._pieces(query, start, end, step, read_native, DAY / 12)))

    def _pieces(
        self, query: str, start: float, end: float, step: float, decode: Callable[[bytes], T], longest: float
    ) -> Iterator[T]:
        seen = 0
        span = max(step, min(longest, step * _MOST_POINTS) // step * step)
        at = start
        while at < end - step / 2:
            until = min(at + span, end)
            # nocache: VictoriaMetrics otherwise moves the start to a multiple of the step.
            form = {"start": _stamp(at + step), "end": _stamp(until), "step": f"{step:.3f}", "nocache": "1"}
            part = self._ask("/api/v1/query_range", {"query": query, **form}, query, decode)
            at = until
            seen += part.size
            if seen > _MOST_SAMPLES:
                raise SourceTooLarge(f"more than {_MOST_SAMPLES} points for {query[:200]}: ask for a shorter time")
            yield part

    def _ask(
        self,
        path: str,
        form: Mapping[str, str],
        query: str,
        decode: Callable[[bytes], T],
        deadline: float | None = None,
    ) -> T:
        deadline = self.deadline if deadline is None else deadline
        status, kind, body = self._fetch(path, {**form, "timeout": milliseconds(deadline)}, deadline)
        if status != 200:
            raise self._no(status, body)
        if body.lstrip()[:1] != b"{":
            page = "a web page" if b"<" in body[:200] or "html" in kind else "something else"
            raise SourceRefused(f"{self.url} answered with {page} instead of metrics: is a login in front of it?")
        return self._decoded(body, query, decode)

    def _decoded(self, body: bytes, query: str, decode: Callable[[bytes], T]) -> T:
        try:
            found = decode(body)
        except NativeHistogram as metric:
            raise SourceRefused(f"{metric} is a native histogram: only a rule of kind latency reads one") from None
        except NoHistogram:
            raise SourceRefused(f"{query[:200]} is not a histogram") from None
        except ServerError as error:
            raise self._no(200, body) from error
        except ValueError:
            raise SourceDown(f"{self.url} sent an answer that ends early or is not JSON") from None
        if len(found) > self.max_series:
            raise TooManySeries(
                f"{len(found)} series for {query[:200]}, more than the {self.max_series} allowed: narrow the selector"
            )
        return found

    def _fetch(self, path: str, form: Mapping[str, str], deadline: float) -> tuple[int, str, bytes]:
        """Send a form and read the answer within the caps; return status, content type and body."""
        late = monotonic() + deadline
        with self._explained(late):
            response = self._session.post(
                self.url + path,
                data=form,
                headers=self._headers,
                auth=self._auth,
                verify=self._session.verify,
                timeout=(min(5.0, deadline), deadline),
                allow_redirects=False,
                stream=True,
            )
        with closing(response), self._explained(late):
            if response.is_redirect or 300 <= response.status_code < 400:
                where, _ = _without_userinfo(response.headers.get("Location", "elsewhere").split("?")[0], strict=False)
                raise SourceRefused(
                    self._clean(f"{self.url} redirects to {where}, which is not followed: give that address")
                )
            if response.headers.get("Content-Encoding", "identity") not in ("identity", ""):
                raise SourceRefused(f"{self.url} compresses its answers although asked not to")
            body = self._read(response, late)
            return response.status_code, response.headers.get("Content-Type", ""), body

    def _read(self, response: requests.Response, late: float) -> bytes:
        body = bytearray()
        # A server that drips bytes never runs into a socket timeout; only closing the socket ends that.
        watchdog = Timer(max(late - monotonic(), 0.0), getattr(response.raw, "shutdown", response.close))
        watchdog.daemon = True
        watchdog.start()
        try:
            for piece in response.iter_content(2**18):
                body += piece
                if len(body) > self.max_bytes:
                    raise SourceTooLarge(
                        f"{self.url} sent more than the {self.max_bytes} bytes allowed: narrow the selector or the time"
                    )
        finally:
            watchdog.cancel()
        if monotonic() > late:
            raise SourceDown(self._slow())
        return bytes(body)

    @contextmanager
    def _explained(self, late: float) -> Iterator[None]:
        """Turn what the network does into our errors. Their texts and causes may hold addresses, so none is chained."""
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise SourceRefused(self._clean(f"{self.url}: no trust in its certificate ({_innermost(error)})")) from None
        except requests.Timeout:
            raise SourceDown(self._slow()) from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, OSError) as error:
            if monotonic() > late:
                raise SourceDown(self._slow()) from None
            raise SourceDown(self._clean(f"{self.url} did not answer: {_innermost(error)}")) from None

    def _no(self, status: int, body: bytes) -> SourceDown | SourceRefused:
        """Return the error for an answer that says no, with the words it used."""
        # Cleaned before they are cut to size: half a secret is not found any more.
        error_type, words = "", self._clean(body[:_WORDS].decode("utf-8", "replace"))[:300].strip()
        try:
            said = json.loads(body)
            error_type, words = str(said["errorType"]), self._clean(str(said["error"]))[:1000]
        except (ValueError, KeyError, TypeError):
            pass
        what = f"{self.url} says no (HTTP {status}{f', {error_type}' if error_type else ''}): {words or 'nothing more'}"
        passing = error_type in _PASSING or (not error_type and (status >= 500 or status == 429))
        return (SourceDown if passing else SourceRefused)(self._clean(what))

    def _slow(self) -> str:
        return f"{self.url} did not finish its answer within {self.deadline:g} s"

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        return text


def _numbers_in(body: bytes) -> SampleSet:
    samples = scan(body)
    return read_json(body) if samples is None else samples


def _inside(times: Floats, start: float, end: float) -> Mask:
    return (times > start + 5e-4) & (times <= end + 5e-4)


def milliseconds(seconds: float) -> str:
    """Return a duration as PromQL writes it.

    >>> milliseconds(60)
    '60000ms'
    """
    return f"{round(seconds * 1000)}ms"


def _stamp(at: float) -> str:
    return f"{at:.3f}"


def _without_userinfo(url: str, strict: bool = True) -> tuple[str, tuple[str, str] | None]:
    """Split `user:password@` off an address.

    Raises:
        ConfigError: when `strict`, an address that is not plain http or https. It is not repeated in the message.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        usable, host, parts = False, "", urlsplit("")
    if strict and not usable:
        raise ConfigError("the address of the metrics server must look like http://prometheus:9090, without a query")
    found = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")), found


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, text in headers.items():
        if not (text.isascii() and text.isprintable()):
            raise ConfigError(f"the header {name} holds line breaks, control or non-ASCII characters")
    return headers


class _Bearer(AuthBase):
    """A token as an auth object, which a .netrc file cannot replace."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _secrets(auth: tuple[str, str] | None, bearer: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the texts that no message may contain; short ones (a tenant "1") would only garble it."""
    known = [bearer or "", *(text for text in headers.values() if len(text) >= 8)]
    if auth:
        known += [auth[1], b64encode(":".join(auth).encode()).decode()]
    return tuple(text.strip() for text in known if len(text) >= 4)


def _credentials(auth: tuple[str, str] | None, bearer: str | None) -> AuthBase | None:
    if auth and bearer:
        raise ConfigError("give the metrics server a user and password, or a bearer token, not both")
    if bearer is not None:
        token = bearer.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError("the bearer token of the metrics server is empty or holds blanks or control characters")
        return _Bearer(token)
    return HTTPBasicAuth(auth[0].encode(), auth[1].encode()) if auth else None


def _innermost(error: BaseException) -> str:
    """Return what the operating system said, without the addresses and paths that libraries wrap around it."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            todo += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
    for one in seen:
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return type(seen[-1]).__name__

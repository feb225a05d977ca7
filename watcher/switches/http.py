"""HTTP as every kill switch speaks it: short waits, no redirects, small answers, and errors that say what to do.

Nothing is repeated here: whether trying again is harmless is known to the outbox, which tries again where an error is
not `permanent`, and waits as long as the system asked it to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import Any, Final

import requests
import urllib3

from watcher.errors import SwitchError

LARGEST: Final = 4 << 20
"""Bytes of an answer beyond which it is not read on."""
PATIENCE: Final = (5.0, 10.0)
"""Seconds to connect, and to wait for each part of an answer."""
_LONGEST_WORDS: Final = 300


@dataclass(frozen=True)
class Answer:
    """What a system answered: its status, and its words; without secrets, where they say no."""

    status: int
    body: bytes

    def json(self, who: str) -> Any:
        """Return the body as JSON.

        Raises:
            SwitchError: it is something else, a login page for example.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            page = "a web page" if b"<" in self.body[:200] else "something else"
            raise SwitchError(f"{who} answered with {page} instead of JSON: is a login in front of it?") from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds `Retry-After` asks to wait; None where it is absent, a date, or no time at all."""
    try:
        wait = float(headers["Retry-After"])
    except (KeyError, ValueError):
        return None  # the outbox has a pace of its own
    return max(wait, 0.0) if isfinite(wait) else None


def ask(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    accept: Collection[int] = (),
    ca_file: str | None = None,
    patience: tuple[float, float] = PATIENCE,
    secrets: Collection[str] = (),
    wait: Callable[[Mapping[str, str]], float | None] = retry_after,
) -> Answer:
    """Send one request and return its answer.

    Args:
        method: of HTTP.
        url: from the configuration, and nowhere else.
        headers: all of them; no credentials are taken from anywhere else.
        body: sent as it is.
        accept: statuses that are answers, not errors, beside those of 2xx.
        ca_file: certificates to trust, instead of the system's.
        patience: seconds to connect, and to wait for each part of the answer.
        secrets: never shown in an error.
        wait: reads from the headers of a refusal how many seconds to wait.

    Raises:
        SwitchError: no answer in time, or one that says no; `permanent` where asking again cannot help.
    """
    where = f"{method} {url}"
    late = monotonic() + sum(patience)

    def clean(text: str) -> str:
        for each in secrets:
            text = text.replace(each, "<secret>")
        return text

    def wrong(problem: str, permanent: bool = False) -> SwitchError:
        return SwitchError(clean(f"{where}: {problem}"), permanent=permanent)

    if ca_file and not os.access(ca_file, os.R_OK):
        raise SwitchError(f"{ca_file}: there are no certificates that can be read; check ca_file", permanent=True)
    content = b""
    # Texts and causes of these hold headers and addresses, so none is chained.
    try:
        response = requests.request(
            method,
            url,
            # As bytes: what is beyond Latin-1 would be an error that nobody expects.
            headers={name: value.encode() for name, value in headers.items()},
            data=body,
            auth=_no_auth,
            verify=ca_file or True,
            timeout=patience,
            allow_redirects=False,
            stream=True,
        )
        with closing(response):
            while piece := response.raw.read1(1 << 16, decode_content=True):
                content += piece
                if len(content) > LARGEST:
                    raise wrong(f"answered with more than {LARGEST >> 20} MiB", permanent=True)
                if monotonic() > late:
                    raise requests.Timeout
    except requests.exceptions.SSLError:
        raise wrong("its certificate is not trusted; name it with ca_file", permanent=True) from None
    except (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError):
        raise wrong(f"no answer within {sum(patience):g} s") from None
    except (requests.RequestException, OSError, urllib3.exceptions.HTTPError) as error:
        raise wrong(f"no answer ({type(error).__name__}): is it running?") from None
    status = response.status_code
    if 200 <= status < 300:
        return Answer(status, content)
    # Cleaned before anything is cut off: half a secret is not found any more.
    said = clean(content.decode("utf-8", "replace"))
    if status in accept:
        return Answer(status, said.encode())
    raise _refused(clean(where), status, " ".join(said.split())[:_LONGEST_WORDS], wait(response.headers))


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep `requests` from adding credentials of a .netrc file in place of ours."""
    return request


def _refused(where: str, status: int, words: str, wait: float | None) -> SwitchError:
    said = f"{where}: HTTP {status}{f', {words}' if words else ''}"
    if 300 <= status < 400:
        return SwitchError(f"{said}; redirects are not followed: give the final address", permanent=True)
    if status in (401, 403):
        return SwitchError(
            f"{said}; the credentials are not accepted: check the token's file and its rights", permanent=True
        )
    if status == 429 or status >= 500:
        return SwitchError(said, retry_after=wait)
    return SwitchError(said, permanent=status not in (408, 409, 425))

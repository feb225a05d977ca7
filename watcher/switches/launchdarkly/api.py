"""LaunchDarkly's REST API, as far as a kill switch needs it: four questions, and two things to ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from watcher.errors import SwitchError
from watcher.switches.http import Answer, ask, retry_after
from watcher.switches.launchdarkly.answers import (
    OFF,
    RIGHT,
    Environment,
    EnvironmentSettings,
    Flag,
    Request,
    Requests,
    Said,
    understood,
)
from watcher.switches.settings import Settings, plain_address, read_secret

SEMANTIC: Final = "application/json; domain-model=launchdarkly.semanticpatch"
API_VERSION: Final = "20240415"
"""The version of the API that is meant, whatever the token was made for."""
LONGEST: Final = 1000
"""Characters of a comment or description; the API takes five times as many of a description."""
_LONGEST_WORDS: Final = 300
_LONGEST_LIMIT: Final = 60.0
"""Seconds; limits are reset every ten, so a longer wait is a misunderstanding."""


class Notify(Settings):
    """Whom LaunchDarkly tells that a kill waits for their approval."""

    members: list[str] = Field(default_factory=list)
    teams: list[str] = Field(default_factory=list)


class LaunchDarklySettings(Settings):
    """Where the flags are, and what allows to turn them off.

    `approval` says whom to notify where changes need an approval; "bypass" that the token's role needs none.
    """

    project: str = Field(min_length=1)
    environment: str = Field(min_length=1)
    token_file: str = Field(min_length=1)
    url: str = "https://app.launchdarkly.com"
    approval: Notify | Literal["bypass"] | None = None
    ca_file: str | None = Field(None, min_length=1)

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if plain_address(url, "https://app.launchdarkly.com").path.strip("/"):
            raise ValueError("expected an address without a path, such as https://app.launchdarkly.com")
        return url.rstrip("/")


class Api:
    """What can be asked of one project and environment. Everything raises SwitchError where the answer is no.

    Args:
        of: the settings.
        patience: seconds to connect, and to wait for each part of an answer.
    """

    def __init__(self, of: LaunchDarklySettings, patience: tuple[float, float]) -> None:
        self.of, self._patience = of, patience

    def flag_url(self, feature: str) -> str:
        """Return the address of a flag, for messages too."""
        return f"{self.of.url}/api/v2/{self._flag(feature)}"

    def fix(self) -> str:
        """Say which token is needed."""
        of = self.of
        return (
            f"put an access token into {of.token_file} whose role allows {RIGHT} on "
            f"proj/{of.project}:env/{of.environment}:flag/*; keys of SDKs are not enough"
        )

    def find(self, feature: str) -> tuple[Flag, Environment]:
        """Return a flag, and what is said of it in the environment."""
        of, where = self.of, f"GET {self.flag_url(feature)}"
        answer = self._ask("GET", f"{self._flag(feature)}?env={_quoted(of.environment)}", accept=(404,))
        if answer.status == 404:
            raise SwitchError(
                f"{where}: HTTP 404: project {of.project!r} has no flag {feature!r} that the token may see; check the "
                "name of the feature, `project`, `url`, and the token's role",
                permanent=True,
            )
        flag = understood(where, answer, Flag)
        if flag.key != feature:
            raise SwitchError(f"{where}: answered with another flag than {feature!r}; check what stands in between")
        if of.environment not in flag.environments:
            raise SwitchError(
                f"{where}: project {of.project!r} has no environment {of.environment!r} that the token may see; check "
                "`environment`: it is the environment's key, not its name",
                permanent=True,
            )
        return flag, flag.environments[of.environment]

    def settings(self) -> EnvironmentSettings:
        """Return the settings of the environment."""
        path = f"projects/{_quoted(self.of.project)}/environments/{_quoted(self.of.environment)}"
        return understood(f"GET {self.of.url}/api/v2/{path}", self._ask("GET", path), EnvironmentSettings)

    def turn_off(self, feature: str, comment: str) -> str:
        """Turn a flag off in the environment.

        A kill does not wait for what others have planned with the flag: where it conflicts, those plans fail.

        Returns:
            Nothing when it is off, or why that has to be approved first.
        """
        where = f"PATCH {self.flag_url(feature)}"
        patch = {"environmentKey": self.of.environment, "comment": _cut(comment), "instructions": [OFF]}
        answer = self._ask("PATCH", f"{self._flag(feature)}?ignoreConflicts=true", patch, accept=(405,))
        if answer.status == 405:
            said = understood(where, answer, Said)
            if said.code != "method_not_allowed":
                raise SwitchError(f"{where}: HTTP 405, and not from LaunchDarkly; check `url`", permanent=True)
            return said.message[:_LONGEST_WORDS] or "HTTP 405"
        changed = understood(where, answer, Flag).environments.get(self.of.environment)
        if changed is not None and changed.on:
            raise SwitchError(f"{where}: it was told to turn {feature} off, and answers that it is still on")
        return ""

    def waiting(self, feature: str) -> Request | None:
        """Return the request to turn a flag off that waits for a person, None where there is none."""
        answer = self._ask("GET", self._requests(feature))
        found = understood(f"GET {self.of.url}/api/v2/{self._requests(feature)}", answer, Requests).items
        return next((request for request in found if request.waits_to_turn_off), None)

    def request(self, feature: str, comment: str) -> Request:
        """Ask for an approval to turn a flag off."""
        of = self.of
        notify = of.approval if isinstance(of.approval, Notify) else Notify()
        wanted = {
            "description": _cut(f"watcher: turn {feature} off in {of.environment}: {comment}"),
            "comment": _cut(comment),
            "instructions": [OFF],
            **({"notifyMemberIds": notify.members} if notify.members else {}),
            **({"notifyTeamKeys": notify.teams} if notify.teams else {}),
        }
        answer = self._ask("POST", self._requests(feature), wanted)
        return understood(f"POST {of.url}/api/v2/{self._requests(feature)}", answer, Request)

    def _flag(self, feature: str) -> str:
        return f"flags/{_quoted(self.of.project)}/{_quoted(feature)}"

    def _requests(self, feature: str) -> str:
        place = f"flags/{_quoted(feature)}/environments/{_quoted(self.of.environment)}"
        return f"projects/{_quoted(self.of.project)}/{place}/approval-requests"

    def _ask(self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = ()) -> Answer:
        token = read_secret(self.of.token_file).strip()
        if not token.isascii():
            raise SwitchError(f"{self.of.token_file}: holds what no token holds; {self.fix()}", permanent=True)
        headers = {"Authorization": token, "Accept": "application/json", "LD-API-Version": API_VERSION}
        if body is not None:
            headers["Content-Type"] = SEMANTIC if method == "PATCH" else "application/json"
        return ask(
            method,
            f"{self.of.url}/api/v2/{path}",
            headers=headers,
            body=None if body is None else json.dumps(body).encode(),
            accept=accept,
            ca_file=self.of.ca_file,
            patience=self._patience,
            secrets=[token],
            wait=_wait,
        )


def _quoted(key: str) -> str:
    """Return a key as one part of an address, whatever it holds."""
    if not key.strip("."):
        raise SwitchError(f"{key!r} is no key of a project, environment or flag", permanent=True)
    return quote(key, safe="")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds to wait: `Retry-After`, or until the limit is reset, by LaunchDarkly's own clock."""
    asked = retry_after(headers)
    if asked is not None:
        return asked
    try:
        wait = float(headers["X-Ratelimit-Reset"]) / 1000 - parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return wait if 0 <= wait <= _LONGEST_LIMIT else None

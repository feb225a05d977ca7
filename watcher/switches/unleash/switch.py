"""The kill switch for feature flags in Unleash: turns a flag off in one environment, through the admin API.

    kill: {unleash: {url: https://unleash.example.com, environment: production, token_file: /run/secrets/unleash}}

What chooses the users of a flag (strategies, segments, variants) stays as people set it: whoever turns the flag on
again finds it as it was.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import Field, field_validator

from watcher.errors import SwitchError
from watcher.model import SwitchState
from watcher.switches.http import PATIENCE, Answer, ask
from watcher.switches.settings import Settings, parsed, plain_address, read_secret
from watcher.switches.unleash.answers import RIGHT, Environment, Flag, Log, Me, understood, words

SHORT_PATIENCE: Final = (2.0, 3.0)
"""Seconds to connect, and to wait for each part of an answer, where a kill does not need it."""


class UnleashSettings(Settings):
    """Where the flags are, and what allows to turn them off."""

    url: str
    project: str = Field("default", min_length=1)
    environment: str = Field(min_length=1)
    token_file: str = Field(min_length=1)
    ca_file: str | None = Field(None, min_length=1)

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = plain_address(url, "https://unleash.example.com")
        if re.search(r"/api(/(admin|client|frontend)\b.*)?/*$", parts.path):
            raise ValueError("expected the address that people open, not that of an API: leave out /api")
        return url.rstrip("/")


class Unleash:
    """Turns flags of one project off in one environment, and never on.

    Args:
        settings: JSON object of `UnleashSettings`.
        patience: seconds to connect, and to wait for each part of an answer.

    Raises:
        ConfigError: a setting is missing, unknown or wrong.
    """

    def __init__(self, settings: str, patience: tuple[float, float] = PATIENCE) -> None:
        self._settings = parsed("unleash", settings, UnleashSettings)
        self._patience = patience

    def __repr__(self) -> str:
        of = self._settings
        return f"Unleash({of.url!r}, project={of.project!r}, environment={of.environment!r})"

    def read(self, feature: str) -> SwitchState:
        """Tell whether the flag is on in the environment, and who gets it.

        The revision is the number that Unleash's own log gave to the latest change of the flag in the environment.

        Raises:
            SwitchError: there is no such flag, project or environment, the token is not accepted, or nobody answers.
        """
        flag, here = self._find(feature)
        return SwitchState(
            here.enabled,
            flag.share(here) if here.enabled else 0.0,
            sticky=flag.sticky(here),
            # Asked last: a change in between gets its own number, and none goes under that of the change before.
            revision=self._revision(feature),
            shown=flag.shown(here),
        )

    def dry_run(self, feature: str) -> str:
        """Say what a kill would send.

        Raises:
            SwitchError: a kill would fail: as for `read`, or because the token may only read.
        """
        of = self._settings
        _, here = self._find(feature)
        where, answer = self._ask("GET", "user")
        permissions = understood(where, answer, Me).permissions
        if not any(permission.suffices(of.project, of.environment) for permission in permissions):
            raise SwitchError(f"{where}: it may read flags, and not turn them off; {self._fix()}", permanent=True)
        would = f"POST {self._url(self._place(feature))}/off"
        return would if here.enabled else f"{of.environment} is off already; nothing would be sent (if on: {would})"

    def kill(self, feature: str, reason: str) -> None:
        """Turn the flag off in the environment; where it is off, Unleash changes and logs nothing.

        Args:
            feature: name of the flag.
            reason: kept by the journal; Unleash has no place for it.

        Raises:
            SwitchError: it was not turned off, or nobody said that it was.
        """
        where, answer = self._ask("POST", f"{self._place(feature)}/off")
        if answer.status == 404:
            raise _absent(where, answer)

    def _find(self, feature: str) -> tuple[Flag, Environment]:
        # The environment alone can be asked for, but does not show segments and parents, nor that a flag is archived.
        where, answer = self._ask("GET", self._flag(feature))
        if answer.status == 404:
            raise self._archived(where, feature) or _absent(where, answer)
        flag = understood(where, answer, Flag)
        if flag.name != feature:
            raise SwitchError(f"{where}: answered with another flag than {feature!r}; check what stands in between")
        environments = {each.name: each for each in flag.environments}
        wanted = self._settings.environment
        if wanted not in environments:
            known = ", ".join(environments) or "none"
            raise SwitchError(f"{where}: there is no environment {wanted!r}; there is: {known}", permanent=True)
        return flag, environments[wanted]

    def _revision(self, feature: str) -> str:
        """Return the number of the latest change, or nothing: no kill shall fail or wait long for want of it."""
        of = self._settings
        narrowed = {"feature": feature, "project": of.project, "environment": of.environment}
        query = urlencode({**{key: f"IS:{value}" for key, value in narrowed.items()}, "limit": 1})
        try:
            where, answer = self._ask("GET", f"search/events?{query}", SHORT_PATIENCE)
            events = understood(where, answer, Log).events
        except SwitchError:
            return ""
        return str(events[0].id) if events else ""

    def _archived(self, where: str, feature: str) -> SwitchError | None:
        """Say that a flag that is not found is archived, if so: its environment is found all the same."""
        try:
            found = self._ask("GET", self._place(feature))[1].status == 200
        except SwitchError:
            return None
        problem = f"{where}: the flag {feature!r} is archived: nobody gets it from Unleash; revive it there to use it"
        return SwitchError(problem, permanent=True) if found else None

    def _ask(self, method: str, path: str, patience: tuple[float, float] | None = None) -> tuple[str, Answer]:
        """Return what was asked, for messages, and an answer that is good or says that there is no such thing."""
        of, url = self._settings, self._url(path)
        token = read_secret(of.token_file).strip()
        if not token.isascii():
            raise SwitchError(f"{of.token_file}: holds what no token of Unleash holds; {self._fix()}", permanent=True)
        answer = ask(
            method,
            url,
            headers={"Authorization": token, "Accept": "application/json"},
            accept=(400, 401, 403, 404),
            ca_file=of.ca_file,
            patience=patience or self._patience,
            secrets=[token],
        )
        # Asked who asks, Unleash says the token, too.
        answer = Answer(answer.status, answer.body.replace(token.encode(), b"<secret>"))
        where = f"{method} {url}"
        if answer.status in (400, 401, 403):
            said = ", ".join(filter(None, (f"HTTP {answer.status}", words(answer))))
            fix = "" if answer.status == 400 else f"; {self._fix()}"
            raise SwitchError(f"{where}: {said}{fix}", permanent=True)
        return where, answer

    def _fix(self) -> str:
        of = self._settings
        return (
            f"put an admin token into {of.token_file}, or one of a user or service account with the permission {RIGHT} "
            f"in {of.environment} of project {of.project}; tokens for SDKs (backend, frontend) are not enough"
        )

    def _url(self, path: str) -> str:
        return f"{self._settings.url}/api/admin/{path}"

    def _flag(self, feature: str) -> str:
        return f"projects/{_quoted(self._settings.project)}/features/{_quoted(feature)}"

    def _place(self, feature: str) -> str:
        return f"{self._flag(feature)}/environments/{_quoted(self._settings.environment)}"


def _quoted(name: str) -> str:
    """Return a name as one part of an address, whatever it holds."""
    if not name.strip("."):
        raise SwitchError(f"{name!r} is no name of a project, flag or environment", permanent=True)
    return quote(name, safe="")


def _absent(where: str, answer: Answer) -> SwitchError:
    """Say why there is no such flag: it never was, it is in another project, or nobody asked Unleash."""
    said = words(answer)
    problem = f"{said}; check the name of the feature, and `project` and `environment`" if said else (
        "HTTP 404, and not from Unleash; check `url`"
    )  # fmt: skip
    return SwitchError(f"{where}: {problem}", permanent=True)

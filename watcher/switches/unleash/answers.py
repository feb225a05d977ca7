"""What Unleash's admin API says: of a flag, of whoever asks, of what was changed; and its own words when it says no."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from watcher.errors import SwitchError
from watcher.switches.http import Answer

RIGHT = "UPDATE_FEATURE_ENVIRONMENT"
"""What the owner of a token must be allowed to do, as Unleash names it."""
_EVERYBODY = "ADMIN"
_PERCENTAGE = re.compile(r"100(\.0+)?|\d{1,2}(\.\d+)?")
_LONGEST_WORDS = 300


class Said(BaseModel):
    """A part of an answer; what watcher does not need is left out."""

    model_config = ConfigDict(frozen=True, strict=True)


class Strategy(Said):
    """How users are chosen: whoever any strategy of a flag chooses gets it."""

    name: str
    parameters: dict[str, Any] = {}
    constraints: list[Any] = []
    segments: list[Any] = []
    disabled: bool | None = None

    @property
    def selective(self) -> bool:
        """Whether it chooses among some users only, and Unleash does not know how many those are."""
        return bool(self.constraints or self.segments)

    @property
    def rollout(self) -> str:
        """The percentage of a gradual rollout, as it is written."""
        return str(self.parameters.get("rollout", "")) if self.name == "flexibleRollout" else ""

    @property
    def share(self) -> float | None:
        """The fraction of users it chooses, None where nobody says."""
        if self.selective:
            return None
        if self.name == "default":
            return 1.0
        return float(self.rollout) / 100 if _PERCENTAGE.fullmatch(self.rollout) else None

    @property
    def stickiness(self) -> str:
        """What decides who is chosen by a gradual rollout."""
        return str(self.parameters.get("stickiness") or "default")

    @property
    def sticky(self) -> bool | None:
        """Whether a user who was chosen stays so; None where that depends on what applications send."""
        if self.share is None or self.stickiness in ("default", "sessionId"):
            return None
        return self.stickiness != "random"

    def __str__(self) -> str:
        some = " for some users" if self.selective else ""
        return f"{self.name} {self.rollout} %{some}, stickiness {self.stickiness}" if self.rollout else self.name + some


class Environment(Said):
    """A flag in one environment."""

    name: str
    enabled: bool
    strategies: list[Strategy] = []

    @property
    def serving(self) -> list[Strategy]:
        """The strategies that count."""
        return [strategy for strategy in self.strategies if not strategy.disabled]


class Parent(Said):
    """A flag that must be on, or off, for another one to be on."""

    feature: str


class Flag(Said):
    """A flag in all environments."""

    name: str
    environments: list[Environment]
    dependencies: list[Parent] = []

    def share(self, here: Environment) -> float | None:
        """Return the fraction of users who get it where it is on; None where nobody says."""
        if self.dependencies:
            return None
        shares = [strategy.share for strategy in here.serving]
        if 1.0 in shares:
            return 1.0
        return shares[0] if len(shares) == 1 else None

    def sticky(self, here: Environment) -> bool | None:
        """Tell whether a user who got it keeps it; None where nobody says."""
        if self.share(here) == 1.0:
            return True
        return here.serving[0].sticky if len(here.serving) == 1 and not self.dependencies else None

    def shown(self, here: Environment) -> str:
        """Say in one line who gets it."""
        if not here.enabled:
            return f"{here.name}: off"
        who = str(here.serving[0]) if len(here.serving) == 1 else f"{len(here.serving)} strategies"
        parents = " and ".join(parent.feature for parent in self.dependencies)
        return f"{here.name}: on, {who}" + (f", depends on {parents}" if parents else "")


class Permission(Said):
    """Something that the owner of a token may do; everywhere, where no project or environment is named."""

    permission: str
    project: str | None = None
    environment: str | None = None

    def suffices(self, project: str, environment: str) -> bool:
        """Tell whether it allows to turn flags off there."""
        there = self.project in (None, "*", project) and self.environment in (None, "*", environment)
        return self.permission == _EVERYBODY or (self.permission == RIGHT and there)


class Me(Said):
    """Whoever asks."""

    permissions: list[Permission]


class Event(Said):
    """A change; their numbers grow."""

    id: int


class Log(Said):
    """Changes, the latest first."""

    events: list[Event]


SaidT = TypeVar("SaidT", bound=Said)


def understood(where: str, answer: Answer, model: type[SaidT]) -> SaidT:
    """Return what an answer says.

    Args:
        where: what was asked, for messages.
        answer: JSON.
        model: what is expected.

    Raises:
        SwitchError: it is something else.
    """
    try:
        return model.model_validate(answer.json(where))
    except SwitchError:
        problem = (
            "answered with something else than JSON; is `url` the address of Unleash, with no login in front of it?"
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "all of it"
        problem = f"not what Unleash's admin API answers ({key}: {first['msg']}); check `url`"
    raise SwitchError(f"{where}: {problem}")


def words(answer: Answer) -> str:
    """Return Unleash's own words of an answer that says no; nothing where somebody else answered."""
    try:
        found = answer.json("")
    except SwitchError:
        return ""
    message = found.get("message") if isinstance(found, dict) else None
    return " ".join(message.split())[:_LONGEST_WORDS].rstrip(".") if isinstance(message, str) else ""

"""What LaunchDarkly's REST API answers, as far as a kill switch needs it; anything else in it is passed over."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from watcher.errors import SwitchError
from watcher.switches.http import Answer

OFF: Final = {"kind": "turnFlagOff"}
"""The instruction of a kill."""
RIGHT: Final = "updateOn"
"""The action that allows it, as LaunchDarkly's roles name it."""
WHOLE: Final = 100_000
"""Weights of a rollout are thousandths of a percent."""
_LONGEST_VALUE: Final = 40


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


PartT = TypeVar("PartT", bound=_Part)


def understood(where: str, answer: Answer, model: type[PartT]) -> PartT:
    """Return an answer as what it should be.

    Raises:
        SwitchError: it is something else.
    """
    found = answer.json(where)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise SwitchError(f"{where}: answered something else than LaunchDarkly does, at {key!r}; check `url`") from None


class Said(_Part):
    """Why LaunchDarkly says no."""

    code: str = ""
    message: str = ""


class Variation(_Part):
    """One value of a flag."""

    value: Any = None

    def shown(self) -> str:
        """Return the value as people read it."""
        words = json.dumps(self.value, ensure_ascii=False)
        return words if len(words) <= _LONGEST_VALUE else f"{words[: _LONGEST_VALUE - 1]}…"


class Weight(_Part):
    """How much of a rollout gets a variation."""

    variation: int
    weight: int


class Rollout(_Part):
    """A rollout between variations, by a hash of the user's key; in an experiment only a part of it counts."""

    variations: list[Weight]
    experimentation: Any = Field(None, alias="experimentAllocation")


class Fallthrough(_Part):
    """What users get whom no rule matches."""

    variation: int | None = None
    rollout: Rollout | None = None


class Target(_Part):
    """Users named one by one."""

    values: list[Any] = []


class Site(_Part):
    """A page for people, below the address that people open."""

    href: str = ""


class Denied(_Part):
    """An action that the token may not do."""

    action: str


class Access(_Part):
    """What the token may do."""

    denied: list[Denied] = []


class Environment(_Part):
    """A flag in one environment."""

    on: StrictBool
    version: int
    archived: bool = False
    off: int | None = Field(None, alias="offVariation")
    fallthrough: Fallthrough = Fallthrough()
    rules: list[Any] = []
    prerequisites: list[Any] = []
    targets: list[Target] = []
    context_targets: list[Target] = Field([], alias="contextTargets")
    site: Site = Field(Site(), alias="_site")
    access: Access = Field(Access(), alias="_access")

    @property
    def singles_out(self) -> bool:
        """Tell whether some users get what others do not, by rules, names or other flags."""
        named = any(target.values for target in (*self.targets, *self.context_targets))
        return bool(self.rules or self.prerequisites or named)

    @property
    def forbidden(self) -> bool:
        """Tell whether LaunchDarkly says that the token may not turn the flag off."""
        return any(denied.action == RIGHT for denied in self.access.denied)


class Flag(_Part):
    """A feature flag. Its variations are named by their place, from 0."""

    key: str
    variations: list[Variation]
    environments: dict[str, Environment] = {}
    archived: bool = False
    tags: list[str] = []

    def trap(self, here: Environment) -> str:
        """Say why users do not lose the feature when the flag is off there; empty when they do."""
        if self.archived or here.archived:
            return "it is archived, and applications get what their code falls back to; restore it in LaunchDarkly"
        off = self._off(here)
        if off is None:
            return (
                "it has no off variation, and applications get what their code falls back to while it is off; "
                "set its off variation in LaunchDarkly"
            )
        if self.variations[off].value is True:
            return "its off variation is true, so everybody gets the feature while it is off; set another off variation"
        return ""

    def share(self, here: Environment) -> float | None:
        """Return the fraction of users whom the flag gives the feature, None where it is not plain."""
        if self.archived or here.archived:
            return 0.0
        without, rollout = self._without(here), here.fallthrough.rollout
        if not here.on:
            return float(self._off(here) not in (None, without))
        if without is None or here.singles_out:
            return None
        if rollout is None:
            return None if here.fallthrough.variation is None else float(here.fallthrough.variation != without)
        if rollout.experimentation or sum(each.weight for each in rollout.variations) != WHOLE:
            return None
        return sum(each.weight for each in rollout.variations if each.variation != without) / WHOLE

    def _off(self, here: Environment) -> int | None:
        return here.off if here.off is not None and 0 <= here.off < len(self.variations) else None

    def _without(self, here: Environment) -> int | None:
        """Return the variation of users without the feature: the off variation, where that is not a trap, or false."""
        if not self.trap(here):
            return self._off(here)
        false = [place for place, each in enumerate(self.variations) if each.value is False]
        return false[0] if len(false) == 1 else None

    def shown(self, here: Environment) -> str:
        """Say what users get, in LaunchDarkly's words."""
        trap = self.trap(here)
        if not here.on:
            off = self._off(here)
            got = "no off variation" if off is None else f"everybody gets {self._value(off)}"
            return f"off, {got}, version {here.version}{f' ({trap})' if trap else ''}"
        rollout = here.fallthrough.rollout
        default = (
            ", ".join(f"{each.weight / 1000:g} % {self._value(each.variation)}" for each in rollout.variations)
            if rollout is not None
            else self._value(here.fallthrough.variation)
        )
        singled = "rules, targets or prerequisites, then " if here.singles_out else ""
        return f"on, {singled}{default}, version {here.version}{f' ({trap})' if trap else ''}"

    def _value(self, variation: int | None) -> str:
        known = variation is not None and 0 <= variation < len(self.variations)
        return self.variations[variation or 0].shown() if known else "nothing"


class Approvals(_Part):
    """Which changes need the approval of a person."""

    required: bool = False
    tags: list[str] | None = Field(None, alias="requiredApprovalTags")


class EnvironmentSettings(_Part):
    """The settings of an environment."""

    approvals: Approvals | None = Field(None, alias="approvalSettings")

    def gate(self, flag: Flag) -> bool:
        """Tell whether turning the flag off needs an approval."""
        if self.approvals is None:
            return False
        return self.approvals.required or bool(set(self.approvals.tags or ()) & set(flag.tags))


class Elsewhere(_Part):
    """The request in a system outside LaunchDarkly."""

    url: str | None = Field(None, alias="externalUrl")


class Request(_Part):
    """A request to approve a change of a flag in one environment."""

    id: str = Field(alias="_id")
    status: str
    review: str = Field(alias="reviewStatus")
    instructions: list[dict[str, Any]]
    at: int | None = Field(None, alias="executionDate")
    elsewhere: Elsewhere | None = Field(None, alias="integrationMetadata")

    @property
    def waits_to_turn_off(self) -> bool:
        """Tell whether all that is missing for the kill is what a person does with this request."""
        return self.status == "pending" and self.review != "declined" and self.at is None and self.instructions == [OFF]


class Requests(_Part):
    """All requests for a flag in one environment."""

    items: list[Request] = []

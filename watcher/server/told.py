"""A release as people and pipelines tell it: the JSON of `POST /v1/releases`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainValidator

from watcher.model import Exposure
from watcher.server.incoming import Moment, Word


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("expected a fraction from 0 to 1, such as 0.05 for 5 % of the users")
    return float(value)


class Told(BaseModel):
    """What is told of a release; a key that is null is one that is left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    service: Word
    feature: Word
    version: Word
    strategy: Literal["flag", "canary", "blue_green"] | None = None
    share: Annotated[float | None, PlainValidator(lambda value: None if value is None else _share(value))] = None
    exposed_at: Moment | None = None
    previous: Word | None = None
    reversible: bool = True

    def exposure(self, at: float) -> Exposure:
        """Return what users became exposed to at a time."""
        return Exposure(
            self.feature, self.version, at, share=self.share, previous=self.previous, reversible=self.reversible
        )

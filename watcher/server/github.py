"""A deployment as GitHub tells it: the `deployment_status` event of a webhook."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from watcher.config import Service
from watcher.model import Deployment
from watcher.server.incoming import Moment, Word

_SHOWN_OF_A_COMMIT = 12


class _Part(BaseModel):
    """Of what GitHub sends, only what is used here; it sends far more, and adds to it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Status(_Part):
    state: Word
    environment: Word | None = None
    created_at: Moment | None = None


class _Payload(_Part):
    version: Word | None = None


def _own_payload(value: object) -> object:
    """Take a payload that is no object for none: it is anything that whoever deploys likes."""
    return value if isinstance(value, dict) else {}


class _Deployment(_Part):
    ref: Word
    sha: Word
    environment: Word
    payload: Annotated[_Payload, BeforeValidator(_own_payload)] = _Payload()


class _Repository(_Part):
    full_name: Word
    default_branch: Word | None = None


class DeploymentStatus(_Part):
    """Something became of a deployment."""

    deployment_status: _Status
    deployment: _Deployment
    repository: _Repository

    @property
    def environment(self) -> str:
        """Where it was deployed to: a status may know better than the request to deploy."""
        return self.deployment_status.environment or self.deployment.environment

    @property
    def version(self) -> str:
        """The version the payload names, else the tag, else the commit: a branch is no version, it moves on."""
        named, ref, sha = self.deployment.payload.version, self.deployment.ref, self.deployment.sha
        if named is not None:
            return named
        if ref in (sha, self.repository.default_branch) or ref.startswith("refs/heads/"):
            return sha[:_SHOWN_OF_A_COMMIT]
        return ref.removeprefix("refs/tags/")

    def is_of(self, service: Service) -> bool:
        """Tell whether a service is released from this repository; GitHub's names do not depend on case."""
        full_name = self.repository.full_name.lower()
        if service.repository is not None:
            return service.repository.lower() == full_name
        return service.name.lower() == full_name.rpartition("/")[2]

    def is_in(self, service: Service) -> bool:
        """Tell whether this was deployed to the service's environment; GitHub's names do not depend on case."""
        return service.environment.lower() == self.environment.lower()

    def of(self, service: Service, at: float) -> Deployment:
        """Return what stands on the service's servers now; the feature is the one its version label is of, if any."""
        labelled = [entry.features[0] for entry in service.releases if entry.notice.label]
        return Deployment(labelled[0] if labelled else service.name, self.version, at)

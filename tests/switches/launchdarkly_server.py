"""A stand-in for LaunchDarkly's REST API on 127.0.0.1, as its public description has it, and as strict.

    with LaunchDarklyServer() as launchdarkly:
        launchdarkly.add("new-checkout")
        launchdarkly.mirror(tmp_path / "flags.json", "production")     # what its SDKs get, kept up to date
        ...
        assert [entry["kind"] for entry in launchdarkly.audit] == ["turnFlagOff"]

One project, `shop`, with the environments `production` and `test`. It refuses what LaunchDarkly refuses: unknown
tokens, keys of SDKs, a Bearer in front of a token, another content type, instructions that it does not know, changes
that need an approval, and changes that make a pending one fail.
"""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import Loopback, answer
from tests.planted import MARK

PROJECT = "shop"
ENVIRONMENTS = ("production", "test")
TOKEN = f"api-{MARK}"
READER = f"api-{MARK}-that-may-only-read"
CHIEF = f"api-{MARK}-that-needs-no-approval"
SDK_KEY = f"sdk-{MARK}-that-is-no-token"
VERSIONS = {"20160426", "20191212", "20210729", "20220603", "20240415", "beta"}

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.body = status, {"code": code, "message": message}
        super().__init__(message)


@dataclass
class Call:
    """One request."""

    method: str
    parts: list[str]
    query: dict[str, list[str]]
    headers: dict[str, str]
    content: bytes
    token: str = ""

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except ValueError:
            raise Refusal(400, "invalid_request", "Invalid request body") from None


@dataclass
class LaunchDarklyServer(Loopback):
    """Serves until the end of the `with` block. `audit` is what was really changed, oldest first."""

    audit: list[Json] = field(default_factory=list)
    required: dict[str, bool] = field(default_factory=dict)
    """By environment, whether changes need an approval."""
    required_tags: dict[str, list[str]] = field(default_factory=dict)
    requests: list[Json] = field(default_factory=list)
    """Approval requests."""
    outside: str = ""
    """The address of requests in a system outside LaunchDarkly, where there is one."""

    def __post_init__(self) -> None:
        self._flags: dict[str, Json] = {}
        self._lock = threading.RLock()
        self._mirror: tuple[Path, str] | None = None
        self._limited_until = 0.0
        super().__init__()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        address = urlsplit(request.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, said, more = self._answer(Call(request.command, parts, parse_qs(address.query), headers, body))
        sent = {"Content_Type": "application/json", **{name.replace("-", "_"): value for name, value in more.items()}}
        answer(request, status, json.dumps(said).encode(), **sent)

    def add(
        self, key: str, *, variations: tuple[Any, ...] = (True, False), tags: tuple[str, ...] = (), **here: Any
    ) -> None:
        """Make a flag that is on everywhere; `here` is said of it in production."""
        environments = {
            name: {
                "on": True,
                "archived": False,
                "salt": "61eddeadbeef4da1facecafe3a60a397",
                "version": 1,
                "targets": [],
                "contextTargets": [],
                "rules": [],
                "fallthrough": {"variation": 0},
                "offVariation": 1,
                "prerequisites": [],
                "_site": {"href": f"/{PROJECT}/{name}/features/{key}", "type": "text/html"},
                "_environmentName": name.title(),
                **(here if name == "production" else {}),
            }
            for name in ENVIRONMENTS
        }
        values = [{"_id": f"{key}-{number}", "value": value} for number, value in enumerate(variations)]
        with self._lock:
            self._flags[key] = {
                "name": key,
                "kind": "boolean" if set(map(type, variations)) == {bool} else "multivariate",
                "key": key,
                "_version": 1,
                "archived": False,
                "variations": values,
                "tags": list(tags),
                "environments": environments,
            }
            self._publish()

    def change(self, key: str, **here: Any) -> None:
        """Let a person change a flag in production."""
        with self._lock:
            known = self._flags[key]["environments"]["production"]
            known.update(here, version=known["version"] + 1)
            self._publish()

    def shown(self, key: str, token: str = TOKEN) -> Json:
        """Return a flag as the API shows it."""
        with self._lock:
            return self._shown(self._flags[key], list(ENVIRONMENTS), token)

    def archive(self, key: str) -> None:
        """Let a person archive a flag."""
        with self._lock:
            self._flags[key]["archived"] = True

    def limit(self, seconds: float) -> None:
        """Refuse everything for so long."""
        self._limited_until = time.time() + seconds

    def mirror(self, path: Path, environment: str) -> None:
        """Write the environment's flags as its SDKs get them, now and after every change."""
        with self._lock:
            self._mirror = (path, environment)
            self._publish()

    def _publish(self) -> None:
        if self._mirror is None:
            return
        path, environment = self._mirror
        flags = {
            key: {
                **{name: value for name, value in flag["environments"][environment].items() if name[0] != "_"},
                "key": key,
                "variations": [each["value"] for each in flag["variations"]],
            }
            for key, flag in self._flags.items()
            if not flag["archived"]
        }
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({"flags": flags, "segments": {}}))
        os.replace(draft, path)

    def _answer(self, call: Call) -> tuple[int, Json, dict[str, str]]:
        with self._lock:
            try:
                if time.time() < self._limited_until:
                    reset = {
                        "X-Ratelimit-Global-Remaining": "0",
                        "X-Ratelimit-Reset": f"{1000 * self._limited_until:.0f}",
                    }
                    return 429, {"code": "rate_limited", "message": "You've exceeded the API rate limit."}, reset
                call.token = self._authorized(call.headers)
                status, body = self._routed(call)
                return status, body, {}
            except Refusal as refusal:
                return refusal.status, refusal.body, {}

    def _authorized(self, headers: dict[str, str]) -> str:
        token = headers.get("authorization", "")
        if token not in (TOKEN, READER, CHIEF):
            raise Refusal(401, "unauthorized", "Invalid access token")
        if headers.get("ld-api-version", "20240415") not in VERSIONS:
            raise Refusal(400, "invalid_request", "Invalid version header")
        return token

    def _routed(self, call: Call) -> tuple[int, Json]:
        match (call.method, call.parts):
            case ("GET", ["api", "v2", "flags", project, key]):
                wanted = [name for value in call.query.get("env", []) for name in value.split(",")]
                return 200, self._shown(self._flag(project, key), wanted or list(ENVIRONMENTS), call.token)
            case ("PATCH", ["api", "v2", "flags", project, key]):
                return 200, self._patched(self._flag(project, key), call)
            case ("GET", ["api", "v2", "projects", project, "environments", name]):
                self._flag(project, None)
                return 200, self._environment(name)
            case ("GET", ["api", "v2", "projects", project, "flags", key, "environments", name, "approval-requests"]):
                self._flag(project, key)
                place = self._resource(key, name)
                return 200, {"items": [each for each in self.requests if each["resourceId"] == place], "_links": {}}
            case ("POST", ["api", "v2", "projects", project, "flags", key, "environments", name, "approval-requests"]):
                self._flag(project, key)
                self._environment(name)
                return 201, self._requested(key, name, call)
            case ("POST", ["api", "v2", "approval-requests", id_, "reviews"]):
                return 200, self._reviewed(id_, call)
            case ("POST", ["api", "v2", "approval-requests", id_, "apply"]):
                return 200, self._applied(id_, call)
            case ("GET", ["api", "v2", "auditlog"]):
                return 200, {"items": self.audit[::-1], "_links": {}}
        raise Refusal(404, "not_found", "Invalid resource identifier")

    def _flag(self, project: str, key: str | None) -> Json:
        if project != PROJECT or (key is not None and key not in self._flags):
            raise Refusal(404, "not_found", "Unknown project" if project != PROJECT else "Unknown feature flag key")
        return self._flags[key] if key is not None else {}

    def _environment(self, name: str) -> Json:
        if name not in ENVIRONMENTS:
            raise Refusal(404, "not_found", "Unknown environment key")
        approvals = {
            "required": self.required.get(name, False),
            "bypassApprovalsForPendingChanges": False,
            "minNumApprovals": 1,
            "canReviewOwnRequest": False,
            "canApplyDeclinedChanges": True,
            "serviceKind": "launchdarkly",
            "requiredApprovalTags": self.required_tags.get(name, []),
        }
        return {"key": name, "name": name.title(), "approvalSettings": approvals}

    def _shown(self, flag: Json, environments: list[str], token: str) -> Json:
        shown = copy.deepcopy(flag)
        shown["environments"] = {name: each for name, each in shown["environments"].items() if name in environments}
        for each in shown["environments"].values():
            each["_access"] = {"allowed": [], "denied": [{"action": "updateOn"}] if token == READER else []}
        return shown

    def _patched(self, flag: Json, call: Call) -> Json:
        if call.headers.get("content-type") != "application/json; domain-model=launchdarkly.semanticpatch":
            raise Refusal(400, "invalid_request", "json: cannot unmarshal object into a JSON patch")
        body = call.json()
        environment = body.get("environmentKey")
        if environment is None:
            raise Refusal(400, "invalid_request", "environmentKey is required for this instruction")
        self._environment(environment)
        instructions = self._instructions(flag, body)
        if call.token == READER:
            raise Refusal(403, "forbidden", "Access to the requested resource was denied")
        if self._gated(flag, environment) and call.token != CHIEF:
            raise Refusal(
                405, "method_not_allowed", "Flag configuration updates require approval: action 'updateOn' not allowed"
            )
        if call.query.get("ignoreConflicts") != ["true"] and self._pending(flag["key"], environment, instructions):
            raise Refusal(400, "invalid_request", "Update would conflict with a pending approval request")
        self._apply(flag, environment, instructions, body.get("comment", ""))
        return self._shown(flag, list(ENVIRONMENTS), call.token)

    def _instructions(self, flag: Json, body: Any) -> list[Json]:
        instructions = body.get("instructions") if isinstance(body, dict) else None
        if not isinstance(instructions, list) or not instructions:
            raise Refusal(400, "invalid_request", "instructions are required")
        if not isinstance(body.get("comment", ""), str):
            raise Refusal(400, "invalid_request", "comment must be a string")
        for each in instructions:
            kind = each.get("kind") if isinstance(each, dict) else None
            if kind not in ("turnFlagOn", "turnFlagOff", "updateOffVariation"):
                raise Refusal(400, "invalid_request", f"invalid instruction kind {kind!r}")
            if kind == "updateOffVariation":
                self._variation(flag, each)
        return instructions

    def _variation(self, flag: Json, instruction: Json) -> int:
        ids = [each["_id"] for each in flag["variations"]]
        if instruction.get("variationId") not in ids:
            raise Refusal(400, "invalid_request", "invalid variationId")
        return ids.index(instruction["variationId"])

    def _gated(self, flag: Json, environment: str) -> bool:
        return self.required.get(environment, False) or bool(
            set(self.required_tags.get(environment, [])) & set(flag["tags"])
        )

    def _pending(self, key: str, environment: str, instructions: list[Json]) -> bool:
        switches = {"turnFlagOn", "turnFlagOff"}
        return any(
            each["resourceId"] == self._resource(key, environment)
            and each["status"] == "pending"
            and switches & {known["kind"] for known in each["instructions"]}
            and switches & {new["kind"] for new in instructions}
            for each in self.requests
        )

    def _apply(self, flag: Json, environment: str, instructions: list[Json], comment: str) -> None:
        here = flag["environments"][environment]
        for each in instructions:
            before = copy.deepcopy(here)
            if each["kind"] == "updateOffVariation":
                here["offVariation"] = self._variation(flag, each)
            else:
                here["on"] = each["kind"] == "turnFlagOn"
            if here != before:
                here["version"] += 1
                self.audit.append(
                    {"kind": each["kind"], "target": self._resource(flag["key"], environment), "comment": comment}
                )
        self._publish()

    @staticmethod
    def _resource(key: str, environment: str) -> str:
        return f"proj/{PROJECT}:env/{environment}:flag/{key}"

    def _requested(self, key: str, environment: str, call: Call) -> Json:
        if call.headers.get("content-type", "").split(";")[0] != "application/json":
            raise Refusal(400, "invalid_request", "Invalid content type")
        body = call.json()
        instructions = self._instructions(self._flags[key], body)
        description = body.get("description")
        if not isinstance(description, str) or not 1 <= len(description) <= 5000:
            raise Refusal(400, "invalid_request", "description must be between 1 and 5000 characters")
        if call.token == READER:
            raise Refusal(403, "forbidden", "Access to the requested resource was denied")
        made = {
            "_id": f"{len(self.requests) + 1:024x}",
            "_version": 1,
            "creationDate": 1_654_104_600_000,
            "serviceKind": "servicenow" if self.outside else "launchdarkly",
            "description": description,
            "reviewStatus": "pending",
            "allReviews": [],
            "notifyMemberIds": body.get("notifyMemberIds", []),
            "notifyTeamKeys": body.get("notifyTeamKeys", []),
            "status": "pending",
            "instructions": instructions,
            "conflicts": [],
            "resourceId": self._resource(key, environment),
            "_links": {},
        }
        if "executionDate" in body:
            made["executionDate"] = body["executionDate"]
        if self.outside:
            made["integrationMetadata"] = {"externalId": "CHG1", "externalUrl": self.outside}
        self.requests.append(made)
        return made

    def _open(self, id_: str) -> Json:
        for each in self.requests:
            if each["_id"] == id_ and each["status"] == "pending":
                return each
        raise Refusal(404, "not_found", "Invalid resource identifier")

    def _reviewed(self, id_: str, call: Call) -> Json:
        request, kind = self._open(id_), call.json().get("kind")
        if kind not in ("approve", "decline", "comment"):
            raise Refusal(400, "invalid_request", "invalid kind")
        request["allReviews"].append({"kind": kind})
        request["reviewStatus"] = {"approve": "approved", "decline": "declined"}.get(kind, request["reviewStatus"])
        return request

    def _applied(self, id_: str, call: Call) -> Json:
        request = self._open(id_)
        if request["reviewStatus"] != "approved":
            raise Refusal(405, "method_not_allowed", "Approval request is not approved")
        environment, key = request["resourceId"].split(":env/")[1].split(":flag/")
        self._apply(self._flags[key], environment, request["instructions"], call.json().get("comment", ""))
        request["status"] = "completed"
        return request

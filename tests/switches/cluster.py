"""The part of a Kubernetes API that a real `kubectl` needs to read and patch a few objects, on 127.0.0.1.

    with Cluster() as cluster:
        cluster.put(VIRTUAL_SERVICE)
        Path("kubeconfig").write_text(cluster.kubeconfig())

The controller of Argo Rollouts is in it as well: it answers an abort by sending all traffic to the stable version.
"""

from __future__ import annotations

import copy
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import jsonpatch

from tests.loopback import Loopback, answer

KINDS = {
    ("apps/v1", "Deployment"): "deployments",
    ("v1", "Service"): "services",
    ("argoproj.io/v1alpha1", "Rollout"): "rollouts",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "httproutes",
    ("networking.istio.io/v1", "VirtualService"): "virtualservices",
}


class Cluster(Loopback):
    """Holds objects; `changes` are the paths of those that a patch changed, one for each time it did.

    `denied` makes it refuse every patch, and say so when asked. The first `lag` readings of a rollout after an abort
    still show the weights from before.
    """

    def __init__(self) -> None:
        self.denied, self.lag = False, 0
        self.changes: list[str] = []
        self._objects: dict[str, dict[str, Any]] = {}
        super().__init__()

    def put(self, thing: dict[str, Any]) -> str:
        """Add an object to the namespace `shop`, or replace it; return its path."""
        version, kind = thing["apiVersion"], thing["kind"]
        root = "/api" if version == "v1" else "/apis"
        path = f"{root}/{version}/namespaces/shop/{KINDS[version, kind]}/{thing['metadata']['name']}"
        self._objects[path] = copy.deepcopy(thing)
        return path

    def get(self, path: str) -> dict[str, Any]:
        return self._objects[path]

    @staticmethod
    def kubeconfig(url: str) -> str:
        """Return the file that names one cluster, at this address."""
        named = {"clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}]}
        context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
        return json.dumps({"apiVersion": "v1", "kind": "Config", **named, **context})

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(request.path).path
        try:
            said = self._answer(request.command, path, body, request.headers.get("Content-Type", ""))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as problem:
            said = _status(422, "Invalid", str(problem))
        status = said["code"] if said["kind"] == "Status" else 200
        answer(request, status, json.dumps(said).encode(), Content_Type="application/json")

    def _answer(self, method: str, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        if method == "POST" and path.endswith("/selfsubjectaccessreviews"):
            return {
                "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "spec": {}, "status": {"allowed": not self.denied},
            }  # fmt: skip
        found = _discovery(path)
        if found is not None:
            return found
        owner = path.removesuffix("/status")
        if owner not in self._objects:
            return _status(404, "NotFound", f"{path} not found")
        if method == "PATCH":
            if self.denied:
                return _status(403, "Forbidden", f"{path} is forbidden")
            self._patch(owner, json.loads(body), content_type)
        return self._shown(self._objects[owner])

    def _patch(self, path: str, patch: Any, content_type: str) -> None:
        before = self._objects[path]
        merge = content_type.startswith("application/merge-patch+json")
        after = _merged(before, patch) if merge else jsonpatch.apply_patch(before, patch)
        if after != before:
            self.changes.append(path)
        self._objects[path] = after

    def _shown(self, thing: dict[str, Any]) -> dict[str, Any]:
        if not thing.get("status", {}).get("abort"):
            return thing
        if self.lag:
            self.lag -= 1
        else:
            thing["status"]["canary"]["weights"] = {"stable": {"weight": 100}, "canary": {"weight": 0}}
        return thing


def _discovery(path: str) -> dict[str, Any] | None:
    groups = [version.partition("/") for version, _ in KINDS if "/" in version]
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        listed = [
            {"name": group, "versions": [each], "preferredVersion": each}
            for group, _, version in groups
            for each in [{"groupVersion": f"{group}/{version}", "version": version}]
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    found = re.fullmatch(r"/apis?/(v1|[^/]+/[^/]+)", path)
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get", "patch"]}
        for (version, kind), plural in KINDS.items()
        if found is not None and version == found[1]
    ]
    if found is None or not resources:
        return None
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": found[1], "resources": resources}


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code,
    }  # fmt: skip


def _merged(thing: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(thing) if isinstance(thing, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged

"""What GitHub sends to a webhook: the `deployment_status` event in its documented shape, and its signature."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

SHA = "5f0c1d9be2a74c3386d1e0f7a9b84c21d3e6f708"


def deployment_status(
    state: str = "success",
    ref: str = "v1.2.0",
    *,
    at: float,
    repository: str = "acme/shop",
    environment: str = "production",
    payload: Any = None,
    **status: Any,
) -> dict[str, Any]:
    """Return the event; `status` replaces keys of its status."""
    owner, _, name = repository.partition("/")
    here = f"https://api.github.com/repos/{repository}"
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ada = {"login": "ada", "id": 7, "type": "User", "site_admin": False, "url": "https://api.github.com/users/ada"}
    return {
        "action": "created",
        "deployment_status": {
            "url": f"{here}/deployments/42/statuses/1",
            "id": 1,
            "state": state,
            "creator": ada,
            "description": "",
            "environment": environment,
            "target_url": "",
            "created_at": when,
            "updated_at": when,
            "deployment_url": f"{here}/deployments/42",
            "repository_url": here,
            "environment_url": "",
            "log_url": "",
            "performed_via_github_app": None,
            **status,
        },
        "deployment": {
            "url": f"{here}/deployments/42",
            "id": 42,
            "task": "deploy",
            "original_environment": "production",
            "environment": environment,
            "description": None,
            "created_at": when,
            "updated_at": when,
            "statuses_url": f"{here}/deployments/42/statuses",
            "repository_url": here,
            "creator": ada,
            "sha": SHA,
            "ref": ref,
            "payload": {} if payload is None else payload,
            "transient_environment": False,
            "production_environment": environment == "production",
            "performed_via_github_app": None,
        },
        "check_run": None,
        "workflow": None,
        "workflow_run": None,
        "repository": {
            "id": 9,
            "name": name,
            "full_name": repository,
            "private": True,
            "owner": {"login": owner, "id": 3, "type": "Organization"},
            "html_url": f"https://github.com/{repository}",
            "default_branch": "main",
            "topics": [],
        },
        "organization": {"login": owner, "id": 3},
        "sender": ada,
    }


def signed(event: str, content: Any, secret: str) -> tuple[bytes, dict[str, str]]:
    """Return the body of a delivery, and its headers."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return body, {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }

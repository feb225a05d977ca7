"""Asks the advisory service (PyPI, by way of pip-audit) about what is installed in .venv.

Fails where a package has a known vulnerability, and says which version mends it. Where the service cannot be asked, as
behind a mirror that has packages and nothing else, it says so and passes: no answer is not a finding.

Usage: python scripts/audit.py PIP_AUDIT SITE_PACKAGES
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

PATIENCE = 60.0
"""Seconds for all of it: a service that hangs must not hold up whoever waits for CI."""


def answer(pip_audit: str, packages: str) -> str:
    """Return what pip-audit says, as JSON; empty where it says nothing in time."""
    command = [pip_audit, "--path", packages, "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE).stdout
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return ""


def report(said: str) -> tuple[int, str]:
    """Return the exit code, and what to print, for an answer of pip-audit."""
    try:
        packages = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, "audit: the advisory service cannot be asked from here; nothing was audited"
    found, asked = list(_found(packages)), [each for each in packages if "skip_reason" not in each]
    if found:
        return 1, "\n".join(["audit: known vulnerabilities:", *found])
    if not asked:
        return 0, f"audit: the advisory service knows none of {len(packages)} packages from here; nothing was audited"
    skipped = f", {len(packages) - len(asked)} could not be" if len(asked) < len(packages) else ""
    return 0, f"audit: {len(asked)} packages audited, none with a known vulnerability{skipped}"


def _found(packages: list[dict[str, Any]]) -> Iterator[str]:
    for each in packages:
        for known in each.get("vulns", ()):
            fixed = ", ".join(known.get("fix_versions") or ()) or "no version yet"
            yield f"  {each['name']} {each['version']}: {known['id']}, mended in {fixed}"


if __name__ == "__main__":
    code, text = report(answer(*sys.argv[1:3]))
    print(text)
    sys.exit(code)

"""What people are told when a release begins and something of the checklist is missing."""

from __future__ import annotations

from watcher.model import Alert, Watch
from watcher.report.preflight import CHECKS, Line, Preflight


def alert(watch: Watch, found: Preflight, now: float) -> Alert | None:
    """Return one message about all that did not pass, below the headline of the release; None where everything did.

    Args:
        watch: of the release that begins.
        found: its checklist.
        now: epoch seconds.
    """
    if not found.missing:
        return None
    release = watch.release
    failed = sum(line.status == "fail" for line in found.missing)
    counts = [f"{failed} failed"] * bool(failed) + [f"{len(found.missing) - failed} to look at"] * (
        len(found.missing) > failed
    )
    return Alert(
        key=f"{release.id}|preflight",
        release=release.message,
        kind="detail",
        state="preflight",
        title=f"Preflight: {', '.join(counts)}: {release.feature} {release.version} on "
        f"{release.service}/{release.environment}",
        lines=tuple(_told(line) for line in found.missing),
        at=now,
        links=watch.links,
    )


def _told(line: Line) -> str:
    mark = {"fail": "✗", "warn": "!"}[line.status]
    return f"{mark} {CHECKS[line.check]}: {line.said}" + (f" → {line.do}" if line.do else "")

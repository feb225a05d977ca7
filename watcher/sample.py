"""What people would be told, shown or sent to them without a release: so that it is known before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from watcher import telling
from watcher.act import Alerter
from watcher.alerts import Reachable, Rendering
from watcher.errors import AlertError
from watcher.journal import Journal
from watcher.model import Alert, Button
from watcher.replies import HARMED, KILLS, TROUBLED, Replies, headline

_WORST: Final = (
    "Requests that failed on checkout: 2.1 times the baseline's (1.4 to 3.2); more than the margin allows (50 % more); "
    "decided after 14 min."
)
_REASONS: Final[Mapping[str, str]] = {
    "healthy": "Requests that failed: proven within the margin (50 % more; one-sided, 95 %); 3 % lower.",
    "watching": "Requests that failed: not decided yet; needs about 12,000 more events, about 9 min.",
    "no_data": "The treatment has sent nothing for 3 min while the baseline has traffic.",
    "invalid": "The release gets 9.1 % (8.7 to 9.5 %) of the users; 5 % is configured.",
    "recovered": "Requests that failed is back at 1.0 % (baseline 1.0 %), 3 min after the kill.",
}


@dataclass(frozen=True)
class Sent:
    """What became of a sample: where it went, or why not; `problem` is empty where it arrived."""

    alerter: str
    where: str
    problem: str = ""


def sample(state: str, now: float) -> Alert:
    """Return a headline as a release has it in a state, of a release that is none."""
    title = f"{telling.TITLES[state]}: new-checkout 1.2.0 on shop/production"
    lines = [_REASONS.get(state, _WORST)]
    if state in HARMED:
        lines.append("Recommended: turn new-checkout off. Not done automatically: mode is recommend.")
    buttons: tuple[Button, ...] = () if state in KILLS or state in telling.ENDINGS else ("kill",)
    if state in HARMED:
        buttons += ("accept",)
    if state in TROUBLED:
        buttons += ("silence", "acknowledge")
    links = (("dashboard", "https://grafana.example/d/shop"), ("runbook", "https://wiki.example/shop"))
    return Alert(
        "sample", "shop/production/new-checkout@1.2.0", "headline", state, title, tuple(lines), now, state in TROUBLED,
        links, buttons=buttons,
    )  # fmt: skip


def recorded(journal: Journal, release: str, page: str | None, now: float) -> Alert | None:
    """Return the latest headline of a release as it would be sent now; None where people were told nothing yet."""
    found = headline(journal, release)
    return None if found is None else Replies(journal, page).told(found, now)


def rendered(alert: Alert, alerters: Mapping[str, Alerter]) -> dict[str, Any]:
    """Return what every alerter would send, by name: text, or what JSON can hold."""
    return {
        name: each.rendered(alert) if isinstance(each, Rendering) else "cannot be shown"
        for name, each in alerters.items()
    }


def send(alerters: Mapping[str, Alerter], by: str, now: float) -> list[Sent]:
    """Send everybody a message that says that it is a test, past the journal: nothing has happened."""
    title = "Test: nothing has happened"
    lines = (f"Sent by {by} with `watcher alerts test`.", "What you see here is where you hear of releases.")
    test = Alert(f"test|{now:.3f}", f"watcher/test/test@{now:.0f}", "headline", "test", title, lines, now)
    return [_sent(name, each, test) for name, each in alerters.items()]


def _sent(name: str, alerter: Alerter, test: Alert) -> Sent:
    try:
        alerter.deliver(test, None)
    except AlertError as error:
        return Sent(name, "", str(error))
    try:
        return Sent(name, alerter.reach().where if isinstance(alerter, Reachable) else name)
    except AlertError:
        return Sent(name, name)

"""Alerts in Alertmanager: one per release, firing for as long as somebody should look, resolved when nobody need.

Alertmanager groups, routes, silences and pages; what a transition says goes to those who ask for words (Slack, a
webhook). It forgets an alert that is not renewed; as watcher speaks when something changes, and not every minute, an
alert says itself until when it holds: `LASTS` after the change, or until the change back.

References:
    Alertmanager API v2, https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final

from watcher.addresses import refused
from watcher.alerts.message import first_words
from watcher.alerts.posting import alert_errors, post
from watcher.errors import AlertError, ConfigError
from watcher.model import Alert, Reach
from watcher.switches.http import ask

LASTS: Final = 7 * 86_400.0
"""Seconds an alert fires unless something changes: longer than a release is watched."""
BRIEFLY: Final[Mapping[str, float]] = {
    "test": 300.0,
    "not_recording": 7200.0,
    "latched": 86_400.0,
    "unwatched": 86_400.0,
}
"""The same of what nothing ends: a sample, what is told again every hour, and what a person looks into."""
NAME: Final = "WatcherRelease"

_SEVERITIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("regressed", "global_event", "killed", "kill_delayed", "kill_failed", "unrecovered", "turned_on"), "critical"
    ),
    **dict.fromkeys(("latched", "not_recording"), "critical"),
    **dict.fromkeys(("no_data", "invalid", "not_raised", "unwatched"), "warning"),
    "test": "none",
}
"""States in which somebody should look, and how soon; in all others nobody need."""


class AlertmanagerAlerter:
    """Tells an Alertmanager.

    Args:
        url: of Alertmanager, without the path of its API.
        authorization: header to send; empty: none.
        ca_file: certificates to trust, instead of the system's.
    """

    def __init__(self, url: str, authorization: str = "", ca_file: str | None = None) -> None:
        self.url, self._ca_file = url.rstrip("/"), ca_file
        self._headers = {"Authorization": authorization} if authorization else {}
        self._secrets = tuple(authorization.split()[1:])

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Fire or resolve the alert of a release; the receipt says how severe it is now.

        Details are folded away, and so is what is told elsewhere: what is fired is what a release is, not what
        happened to it.

        Raises:
            AlertError: Alertmanager refused, or could not be reached.
        """
        if alert.kind == "detail" or alert.channel:
            return {}
        before = (headline or {}).get("severity", "")
        body = json.dumps(alerts(alert, before)).encode()
        post(f"{self.url}/api/v2/alerts", self._headers, body, self._ca_file, self._secrets)
        return {"severity": _SEVERITIES.get(alert.state, "")}

    def reach(self) -> Reach:
        """Return that it answers; AlertError where it does not."""
        with alert_errors():
            where = f"{self.url}/api/v2/status"
            answer = ask("GET", where, headers=self._headers, ca_file=self._ca_file, secrets=self._secrets)
            found = answer.json(f"GET {where}")
        if not isinstance(found, dict) or "versionInfo" not in found:
            raise AlertError(f"what answers at {self.url} is no Alertmanager", permanent=True)
        return Reach(f"Alertmanager {found['versionInfo'].get('version', '')} at {self.url}")

    def rendered(self, alert: Alert) -> Any:
        """Return what would be sent."""
        return alerts(alert)


def alerts(alert: Alert, before: str = "") -> list[dict[str, Any]]:
    """Return what to post for a headline: the alert as it is now, and the end of what it was.

    Args:
        alert: a headline.
        before: how severe the release was when Alertmanager was told last; empty: it was not.
    """
    now = _SEVERITIES.get(alert.state, "")
    made = []
    if before and before != now:
        made.append(_alert(alert, before, resolved=True))
    if now or not made:
        made.append(_alert(alert, now or "none", resolved=not now))
    return made


def _alert(alert: Alert, severity: str, resolved: bool) -> dict[str, Any]:
    service, environment, feature, version = _parts(alert.release)
    # An empty label is refused, and means the same as none.
    labels = {
        "alertname": NAME,
        "severity": severity,
        "service": service,
        "environment": environment,
        "feature": feature,
        "version": version,
        "release": alert.release,
    }
    links = {name: address for name, address in alert.links if name in ("runbook", "dashboard")}
    made: dict[str, Any] = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {
            "summary": first_words(alert),
            "description": "\n".join(alert.lines),
            "state": alert.state,
            **{f"{name}_url": address for name, address in links.items()},
        },
        "startsAt": _iso(alert.at),
        "endsAt": _iso(alert.at if resolved else alert.at + BRIEFLY.get(alert.state, LASTS)),
    }
    page = next((address for name, address in alert.links if name == "page"), None)
    return made | ({"generatorURL": page} if page else {})


def _parts(release: str) -> tuple[str, str, str, str]:
    """Return service, environment, feature and version; of what is no release, nothing.

    >>> _parts("shop/production/new-checkout@1.2#2"), _parts("latch|1")
    (('shop', 'production', 'new-checkout', '1.2#2'), ('', '', '', ''))
    """
    service, _, rest = release.partition("/")
    environment, _, named = rest.partition("/")
    feature, at, version = named.rpartition("@")
    return (service, environment, feature, version) if at else ("", "", "", "")


def _iso(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def alertmanager_alerter(
    *,
    url: str,
    bearer: str | None = None,
    username: str | None = None,
    password: str | None = None,
    ca_file: str | None = None,
) -> AlertmanagerAlerter:
    """Return the alerter for an Alertmanager.

    Args:
        url: where it is.
        bearer: token to send.
        username: of basic authentication, with `password`.
        password: likewise.
        ca_file: certificates to trust, instead of the system's.

    Raises:
        ConfigError: nothing is sent there.
    """
    if why := refused(url):
        raise ConfigError(why, key="alertmanager.url")
    authorization = f"Bearer {bearer}" if bearer else ""
    if username:
        basic = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
        authorization = f"Basic {basic}"
    return AlertmanagerAlerter(url, authorization, ca_file)

"""Alerts in a real Alertmanager: one per release, as severe as it is now, resolved when nobody need look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from tests.performing import perform
from tests.planted import MARK
from tests.servers import alertmanager_server
from tests.servers.conftest import require
from watcher.act import Outbox
from watcher.alerts import alerter
from watcher.alerts.alertmanager import AlertmanagerAlerter
from watcher.clock import wall_clock
from watcher.errors import AlertError, ConfigError
from watcher.journal import Journal
from watcher.model import Alert
from watcher.testing import MemorySwitch

pytestmark = pytest.mark.servers

RELEASE = "shop/production/new-checkout@1.2.0"
HEADLINE = Alert(
    "k", RELEASE, "headline", "watching", "Watching: new-checkout 1.2.0", ("errors: 3.1 times the baseline's",),
    urgent=True, links=(("runbook", "https://wiki.example/shop"), ("page", "https://watcher.example/releases/x")),
)  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require(alertmanager_server.missing())
    with alertmanager_server.running(tmp_path_factory.mktemp("alertmanager")) as url:
        yield url


def firing(url: str, release: str) -> list[dict[str, Any]]:
    """Return the alerts that are not resolved, as Alertmanager has them."""
    found = requests.get(f"{url}/api/v2/alerts", params={"filter": f'release="{release}"'}, timeout=10).json()
    return list(found)


def test_a_release_is_one_alert_whatever_happens_to_it(url: str) -> None:
    told = alerter("alertmanager", url=url)
    now = wall_clock()
    with Journal.open("sqlite://") as journal:
        outbox = Outbox(journal, lambda _: MemorySwitch(), {"alertmanager": told}, stopwatch=lambda: 0.0)
        seen = []
        for nth, state in enumerate(("watching", "no_data", "regressed", "killed", "unrecovered", "recovered")):
            at = now - 60.0 + 3.0 * nth
            made = replace(HEADLINE, key=f"{state}|headline", state=state, title=state, at=at)
            journal.intend([made, replace(made, key=f"{state}|detail", kind="detail")], at)
            perform(outbox, at)
            seen.append([(each["labels"]["severity"], each["annotations"]["state"]) for each in firing(url, RELEASE)])
        assert journal.unfinished() == []
    critical = [[("critical", state)] for state in ("regressed", "killed", "unrecovered")]
    assert seen == [[], [("warning", "no_data")], *critical, []]


def test_who_is_paged_is_told_what_and_where(url: str) -> None:
    told = alerter("alertmanager", url=url)
    release = "shop/production/search@2#2"
    told.deliver(replace(HEADLINE, release=release, state="regressed", at=wall_clock()), None)
    [alert] = firing(url, release)
    assert alert["labels"] == {
        "alertname": "WatcherRelease", "severity": "critical", "service": "shop", "environment": "production",
        "feature": "search", "version": "2#2", "release": release,
    }  # fmt: skip
    assert alert["annotations"]["summary"].startswith("🔴 Regressed: Watching: new-checkout 1.2.0")
    assert alert["annotations"]["description"] == "errors: 3.1 times the baseline's"
    assert alert["annotations"]["runbook_url"] == "https://wiki.example/shop"
    assert alert["generatorURL"] == "https://watcher.example/releases/x"


def test_what_is_of_no_release_is_an_alert_too(url: str) -> None:
    told = alerter("alertmanager", url=url)
    told.deliver(replace(HEADLINE, release="latch|1", state="latched", at=wall_clock()), None)
    [alert] = firing(url, "latch|1")
    assert alert["labels"]["severity"] == "critical"
    assert "service" not in alert["labels"]


def test_it_can_be_asked_whether_it_is_there(url: str) -> None:
    told = alerter("alertmanager", url=url)
    assert isinstance(told, AlertmanagerAlerter)
    assert told.reach().where.startswith("Alertmanager 0.")
    gone = alerter("alertmanager", url="http://127.0.0.1:9", bearer=f"{MARK}-bearer")
    assert isinstance(gone, AlertmanagerAlerter)
    for ask in (gone.reach, lambda: gone.deliver(HEADLINE, None)):
        with pytest.raises(AlertError, match="is it running") as raised:
            ask()
        assert not raised.value.permanent


def test_what_is_told_elsewhere_or_below_is_no_alert(url: str) -> None:
    told = alerter("alertmanager", url=url)
    assert told.deliver(replace(HEADLINE, release="a/b/c@1", kind="detail", state="regressed"), None) == {}
    assert told.deliver(replace(HEADLINE, release="a/b/c@1", channel="#support", state="regressed"), None) == {}
    assert firing(url, "a/b/c@1") == []


def test_an_address_of_a_cloud_s_metadata_is_refused() -> None:
    with pytest.raises(ConfigError, match="alertmanager"):
        alerter("alertmanager", url="http://169.254.169.254/")

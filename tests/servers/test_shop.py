from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from tests.servers import prometheus_server
from tests.servers.conftest import require
from tests.servers.load import Load, ports, visit
from tests.servers.shop import Shop, WatchedFile, is_exposed, read_exposure, scrape

FLAGS = """\
features:
  new-checkout:
    enabled: {enabled}
    description: "New checkout flow with one-page payment"
    rollout_percentage: {percentage}
"""


def write_flags(path: Path, enabled: bool, percentage: int = 100) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(FLAGS.format(enabled=str(enabled).lower(), percentage=percentage))
    os.replace(draft, path)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; how long it takes decides nothing, that it never does fails."""
    for _ in range(2400):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "feature-flags.yaml"
    write_flags(path, enabled=False)
    return path


@pytest.fixture
def shop(tmp_path: Path, flags: Path) -> Iterator[Shop]:
    with Shop(tmp_path, flags, completion_delay=0.05) as running:
        yield running


def test_a_changed_file_is_seen_at_the_next_look_and_looks_are_a_tenth_of_a_second_apart(flags: Path) -> None:
    watched = WatchedFile(flags, read_exposure, now=100.0)
    assert watched.content(now=100.2) == {"new-checkout": 0.0}
    write_flags(flags, enabled=True, percentage=5)
    assert watched.content(now=100.25) == {"new-checkout": 0.0}
    assert watched.content(now=100.31) == {"new-checkout": 5.0}


@pytest.mark.parametrize(
    "unfinished", ["", "features: {new-che", "features:\n  new-checkout:\n", "features: [1]", None]
)
def test_the_last_flags_hold_while_the_file_is_missing_or_half_written(flags: Path, unfinished: str | None) -> None:
    write_flags(flags, enabled=True, percentage=5)
    watched = WatchedFile(flags, read_exposure, now=100.0)
    if unfinished is None:
        flags.unlink()
    else:
        flags.write_text(unfinished)
    assert watched.content(now=101.0) == {"new-checkout": 5.0}
    write_flags(flags, enabled=False)
    assert watched.content(now=102.0) == {"new-checkout": 0.0}


def test_a_share_of_the_users_is_exposed_and_raising_it_takes_nobody_out() -> None:
    users = range(20_000)
    few = {user for user in users if is_exposed(user, "new-checkout", 5)}
    more = {user for user in users if is_exposed(user, "new-checkout", 50)}
    assert few < more
    assert 0.044 < len(few) / len(users) < 0.056
    assert 0.486 < len(more) / len(users) < 0.514
    assert not any(is_exposed(user, "new-checkout", 0) for user in users)
    assert all(is_exposed(user, "new-checkout", 100) for user in users)


def test_a_flag_turned_on_and_off_changes_what_users_get(shop: Shop, flags: Path) -> None:
    def gets(variant: str) -> bool:
        return shop.get("new-checkout", user=7)[1].startswith(variant)

    assert gets("off")
    write_flags(flags, enabled=True)
    eventually(lambda: gets("on"), "the flag turned on")
    assert shop.get("search", user=7)[1].startswith("off")
    write_flags(flags, enabled=False)
    eventually(lambda: gets("off"), "the flag turned off")


def test_the_shop_measures_what_it_did(shop: Shop) -> None:
    statuses = [shop.get("new-checkout", user)[0] for user in range(200)]
    good = statuses.count(200)
    assert set(statuses) <= {200, 500}
    arm = {"feature": "new-checkout", "variant": "off"}
    assert shop.count("http_requests_total", **arm, code="200") == good
    assert shop.count("http_requests_total", **arm) == 200
    assert shop.count("page_load_seconds_count", **arm) == shop.count("checkout_started_total", **arm) == good
    slow = good - shop.count("page_load_seconds_bucket", **arm, le="2.5")
    assert 0 < slow < 0.1 * good
    eventually(lambda: shop.count("checkout_completed_total", **arm) > 0.8 * good, "the checkouts were completed")
    assert shop.count("checkout_completed_total", **arm) <= good
    assert shop.count("process_start_time_seconds") > 1.6e9


def test_a_series_is_born_with_its_first_event_except_those_of_good_requests(shop: Shop) -> None:
    page = requests.get(f"{shop.url}/metrics", timeout=10).text
    assert 'http_requests_total{code="200",feature="new-checkout",variant="on"} 0.0' in page
    assert 'feature="search",variant="on"' not in page
    assert 'code="500"' not in page
    assert "page_load_seconds_bucket" not in page
    shop.set_faults(error_rate={"off": 1.0})
    eventually(lambda: shop.get("search", user=1)[0] == 500, "search failed")
    assert shop.count("http_requests_total", feature="search", variant="off", code="500") >= 1


def test_pages_nobody_made_and_visitors_without_a_number_are_refused_and_not_counted(shop: Shop) -> None:
    assert requests.get(f"{shop.url}/basement?user=1", timeout=10).status_code == 404
    assert requests.get(f"{shop.url}/search", timeout=10).status_code == 400
    assert requests.get(f"{shop.url}/search?user=x", timeout=10).status_code == 400
    assert shop.count("http_requests_total") == 0
    assert requests.get(f"{shop.url}/search", headers={"user": "1"}, timeout=10).status_code in (200, 500)
    assert shop.count("http_requests_total") == 1


def test_faults_make_one_variant_bad_and_leave_the_other_alone(shop: Shop, flags: Path) -> None:
    write_flags(flags, enabled=True, percentage=50)
    visit([shop.url], rate=300, seconds=0.5)  # until both files were looked at
    before = _shares(shop)
    shop.set_faults(error_rate={"on": 0.5}, load_factor={"on": 4.0}, completion={"on": 0.1})
    visit([shop.url], rate=50, seconds=0.5)
    began = _tallies(shop)
    sent = visit([shop.url], rate=300, seconds=3, features={"new-checkout": 1.0})
    after = _shares(shop, began)
    assert sent.unanswered == 0
    assert before["on"]["errors"] < 0.15
    assert after["on"]["errors"] > 0.4
    assert after["off"]["errors"] < 0.05
    assert after["on"]["slow"] > 0.4
    assert after["off"]["slow"] < 0.1
    assert after["on"]["completed"] < 0.3
    assert after["off"]["completed"] > 0.7


def _tallies(shop: Shop) -> dict[str, dict[str, float]]:
    time.sleep(0.2)  # the checkouts begun are completed
    tallies = {}
    for variant in ("off", "on"):
        arm = {"feature": "new-checkout", "variant": variant}
        tallies[variant] = {
            "errors": shop.count("http_requests_total", **arm, code="500"),
            "requests": shop.count("http_requests_total", **arm),
            "fast": shop.count("page_load_seconds_bucket", **arm, le="2.5"),
            "started": shop.count("checkout_started_total", **arm),
            "completed": shop.count("checkout_completed_total", **arm),
        }
    return tallies


def _shares(shop: Shop, began: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, dict[str, float]]:
    shares = {}
    for variant, tally in _tallies(shop).items():
        new = {name: number - (began[variant][name] if began else 0.0) for name, number in tally.items()}
        shares[variant] = {
            "errors": new["errors"] / new["requests"],
            "slow": 1 - new["fast"] / new["started"],
            "completed": new["completed"] / new["started"],
        }
    return shares


def test_the_same_seed_and_visits_give_the_same_answers(tmp_path: Path, flags: Path) -> None:
    def answers(instance: str, seed: int) -> list[int]:
        with Shop(tmp_path, flags, instance=instance, seed=seed) as shop:
            shop.set_faults(error_rate={"off": 0.5})
            time.sleep(0.15)
            return [shop.get("search", user)[0] for user in range(40)]

    first = answers("shop-1", 1)
    assert answers("shop-1", 1) == first
    assert answers("shop-2", 1) != first
    assert answers("shop-1", 2) != first


def test_a_restarted_shop_counts_from_zero_on_the_same_port(shop: Shop) -> None:
    shop.get("search", user=1)
    port, pid, started = shop.port, shop.pid, shop.count("process_start_time_seconds")
    shop.stop()
    assert has_ended(pid)
    shop.start()
    assert (shop.port, shop.count("http_requests_total")) == (port, 0)
    assert shop.count("process_start_time_seconds") > started


def test_every_request_of_the_load_is_counted_by_one_of_the_shops_in_turns(tmp_path: Path, flags: Path) -> None:
    with Shop(tmp_path, flags, instance="shop-1") as one, Shop(tmp_path, flags, instance="shop-2") as two:
        with Load([one.url, two.url], rate=200, seconds=2) as load:
            pid = load.pid
            sent = load.wait()
        counts = [shop.count("http_requests_total") for shop in (one, two)]
        assert sum(counts) == sent["answered"] == sent["sent"] - sent["unanswered"] > 0
        assert sent["unanswered"] == 0
        assert abs(counts[0] - counts[1]) <= 1
        for code in sent["codes"]:
            assert sum(shop.count("http_requests_total", code=code) for shop in (one, two)) == sent["codes"][code]
        pids = [pid, one.pid, two.pid]
    assert all(has_ended(pid) for pid in pids)


def test_a_load_that_is_stopped_early_still_says_what_it_sent(shop: Shop) -> None:
    with Load([shop.url], rate=200, seconds=600) as load:
        pid = load.pid
        eventually(lambda: shop.count("http_requests_total") > 20, "requests arrived")
    assert has_ended(pid)
    assert load.sent["answered"] <= shop.count("http_requests_total") <= load.sent["sent"]
    assert load.sent["seconds"] < 600


def test_a_load_goes_on_while_a_shop_restarts(shop: Shop) -> None:
    with Load([shop.url], rate=200, seconds=600) as load:
        eventually(lambda: shop.count("http_requests_total") > 20, "requests arrived")
        shop.stop()
        shop.start()
        eventually(lambda: shop.count("http_requests_total") > 20, "requests arrived after the restart")
    assert load.sent["unanswered"] > 0


@pytest.mark.parametrize(
    "target",
    [
        "http://192.0.2.1:80",
        "http://localhost:80",
        "https://127.0.0.1:80",
        "http://127.0.0.1",
        "http://127.0.0.1:80@192.0.2.1:80",
        "http://127.0.0.1:80/path",
        "127.0.0.1:80",
        "",
    ],
)
def test_load_goes_to_this_machine_only(target: str) -> None:
    with pytest.raises(ValueError, match=r"not http://127\.0\.0\.1:PORT"):
        ports(["http://127.0.0.1:8001", target])
    with pytest.raises(ValueError, match=r"not http://127\.0\.0\.1:PORT"):
        Load([target])


@pytest.mark.servers
def test_prometheus_sees_both_instances_and_their_counters_grow(tmp_path: Path, flags: Path) -> None:
    require(prometheus_server.missing())
    write_flags(flags, enabled=True, percentage=50)
    directory = tmp_path / "prometheus"
    with (
        prometheus_server.running(directory) as server,
        Shop(tmp_path, flags, instance="shop-1") as one,
        Shop(tmp_path, flags, instance="shop-2") as two,
    ):
        scrape(server, directory / "prometheus.yml", [one, two])

        def ask(query: str) -> dict[str, float]:
            answer = requests.get(f"{server.url}/api/v1/query", params={"query": query}, timeout=10).json()
            return {found["metric"]["instance"]: float(found["value"][1]) for found in answer["data"]["result"]}

        total = 'sum by (instance) (http_requests_total{job="shop", feature="new-checkout", variant="on"})'
        with Load([one.url, two.url], rate=100, seconds=600) as load:
            eventually(lambda: set(ask(f"{total} > 0")) == {"shop-1", "shop-2"}, "both were scraped")
            first = ask(total)
            eventually(lambda: all(ask(total)[name] > first[name] for name in first), "the counters grew")
        truth = {shop.instance: shop.count("http_requests_total") for shop in (one, two)}
        eventually(lambda: ask("sum by (instance) (http_requests_total)") == truth, "the last scrape says the truth")
        started = {shop.instance: shop.count("process_start_time_seconds") for shop in (one, two)}
        assert ask("process_start_time_seconds") == started
        assert load.sent["unanswered"] <= 8  # those under way when it was stopped
        pids = [server.pid, one.pid, two.pid]
    assert all(has_ended(pid) for pid in pids)

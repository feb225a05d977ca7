"""What the kill switch `haproxy` does without HAProxy: settings, weights, and the files that a reload starts from."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.config import load_installation, switch_key
from watcher.errors import ConfigError, SwitchError
from watcher.switches import Switch, switch
from watcher.switches.haproxy.saved import MapFile, StateFile
from watcher.switches.haproxy.servers import Server
from watcher.switches.haproxy.weights import in_order, weights_for

ROOT = Path(__file__).resolve().parents[2]
STATE = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 shop 1 stable 127.0.0.1 2 0 95 95 1
3 shop 2 canary 127.0.0.1 2 4 5 5 1
4 shop-2 1 canary 127.0.0.1 2 0 5 5 1

"""


def made(settings: dict[str, str]) -> Switch:
    return switch(f"haproxy:{json.dumps(settings)}")


def test_what_a_release_is_called_never_becomes_a_command() -> None:
    for to in ("blue; disable server shop/stable", "blue\nshutdown", "", "{previous} x"):
        with pytest.raises(ConfigError, match="is no name in HAProxy"):
            made({"socket": "/run/haproxy.sock", "map": "live", "to": to})
    with pytest.raises(ConfigError, match="must be one word"):
        made({"socket": "/run/haproxy.sock", "map": "live", "to": "blue", "key": "live blue;x y"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "shop", "server": "canary"}, "kill.haproxy.socket: is missing"),
        ({"socket": "haproxy", "backend": "shop", "server": "canary"}, "kill.haproxy.socket: expected the path of HAP"),
        ({"socket": "127.0.0.1:70000", "backend": "shop", "server": "canary"}, "such as 127.0.0.1:9999; found '127"),
        ({"socket": "/s", "backend": "shop"}, "server is missing: give backend and server"),
        ({"socket": "/s"}, "backend is missing: give backend and server"),
        ({"socket": "/s", "map": "live"}, "to is missing: .* or map and to"),
        ({"socket": "/s", "map": "live", "to": "blue", "state_file": "/x"}, "state_file does not belong here"),
        ({"socket": "/s", "backend": "shop", "server": "canary", "key": "live"}, "key does not belong here"),
        ({"socket": "/s", "backend": "shop", "sever": "canary"}, "did you mean 'server'"),
        ({"socket": "/s", "backend": "sh op", "server": "canary"}, "kill.haproxy.backend: 'sh op' is no name"),
    ],
)
def test_settings_that_are_wrong_are_named(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(settings)


def test_settings_with_placeholders_are_taken_before_a_release_fills_them() -> None:
    made({"socket": "/run/haproxy.sock", "backend": "{feature}", "server": "{version}"})
    made({"socket": "/run/haproxy.sock", "map": "live", "to": "{previous}"})


@given(st.floats(0.001, 0.999), st.lists(st.integers(1, 256), min_size=1, max_size=30), st.data())
def test_weights_give_the_share_that_was_asked_for_or_are_refused(
    share: float, weights: list[int], data: st.DataObject
) -> None:
    others = {f"s{number}": weight for number, weight in enumerate(weights)}
    counted = data.draw(st.sets(st.sampled_from(sorted(others)), min_size=1))
    heaviest = np.arange(1, 257)[:, None, None]
    scaled = np.maximum(1, np.rint(np.array([others[name] for name in counted]) * heaviest / max(weights)))
    canaries, total = np.arange(1, 257)[None, :], scaled.sum(axis=2)
    if (abs(canaries / (canaries + total) - share) >= 0.005).all():
        with pytest.raises(SwitchError, match="cannot be said in weights"):
            weights_for(share, others, counted)
        return
    canary, stable = weights_for(share, others, counted)
    assert 1 <= canary <= 256
    assert stable.keys() == others.keys()
    assert all(1 <= weight <= 256 for weight in stable.values())
    assert abs(canary / (canary + sum(stable[name] for name in counted)) - share) < 0.005


@pytest.mark.parametrize("servers", [1, 2, 3, 4, 7, 12, 40])
@pytest.mark.parametrize("percent", [1, 2, 5, 10, 20, 25, 33, 50, 75])
def test_every_usual_share_is_met_closely_beside_any_number_of_equal_servers(servers: int, percent: int) -> None:
    others = {f"s{number}": 50 for number in range(servers)}
    canary, stable = weights_for(percent / 100, others, others)
    assert len(set(stable.values())) == 1
    assert canary / (canary + sum(stable.values())) == pytest.approx(percent / 100, abs=0.001)


def test_servers_of_unequal_weight_keep_their_proportions() -> None:
    canary, stable = weights_for(0.25, {"large": 100, "small": 50}, {"large", "small"})
    assert stable["large"] == 2 * stable["small"]
    assert canary / (canary + sum(stable.values())) == 0.25


def test_a_server_that_is_down_is_kept_in_proportion_and_not_counted() -> None:
    assert weights_for(0.5, {"up": 95, "down": 95}, {"up"}) == (50, {"up": 50, "down": 50})


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 256), st.integers(0, 256)), min_size=1),
    st.tuples(st.integers(0, 256), st.integers(0, 256)),
)
def test_on_the_way_the_canary_never_has_more_than_before_or_after(
    others: dict[str, tuple[int, int]], canary: tuple[int, int]
) -> None:
    moves = {**others, "canary": canary}
    weights = {name: before for name, (before, _) in moves.items()}
    wanted = {name: after for name, (_, after) in moves.items()}

    def share() -> float:
        return weights["canary"] / max(sum(weights.values()), 1)

    shares = [share()]
    for name, weight in in_order(weights, wanted, "canary"):
        weights[name] = weight
        shares.append(share())
    assert weights == wanted
    assert max(shares) == max(shares[0], shares[-1])


def test_a_state_file_says_what_will_be_and_leaves_other_backends_alone(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "state"))
    canary = Server("canary", 0, 5, "up")
    file.write(STATE, "shop", {"canary": 0, "stable": 50}, "canary")
    expected = STATE.replace("2 0 95 95", "2 0 50 95").replace("2 4 5 5", "2 5 0 5")
    assert (tmp_path / "state").read_text() == expected
    assert file.restores("shop", canary) == (0, True, f"{file.path} says so")
    assert file.restores("shop-2", canary) == (5, False, f"{file.path} says so")


@pytest.mark.parametrize(
    ("content", "weight", "why"),
    [
        (STATE.replace("4 5 5", "4 0 5"), 0, "says so"),
        (STATE.replace("4 5 5", "4 0 7"), 5, "says so"),  # configured anew since it was saved: that wins
        (STATE.replace("canary", "canari"), 5, "does not have shop/canary"),
        ("", 5, "is no state file"),
        ("<html>", 5, "is no state file"),
        (None, 5, "is missing"),
    ],
)
def test_a_reload_restores_what_the_state_file_says_if_the_configuration_is_the_same(
    tmp_path: Path, content: str | None, weight: int, why: str
) -> None:
    path = tmp_path / "state"
    if content is not None:
        path.write_text(content)
    found = StateFile(str(path)).restores("shop", Server("canary", 0, 5, "up"))
    assert found == (weight, False, f"{path} {why}")


def test_a_folder_where_the_state_file_should_be_is_told_of(tmp_path: Path) -> None:
    assert StateFile(str(tmp_path)).problem() == f"{tmp_path} is a folder"
    assert StateFile(str(tmp_path)).restores("shop", Server("canary", 0, 5, "up"))[2].endswith("Is a directory")
    assert StateFile(str(tmp_path / "gone" / "state")).problem() == f"{tmp_path}/gone/state: its folder is missing"
    assert StateFile(str(tmp_path / "state")).problem() is None


KEYS = st.text("abz.-/:é", min_size=1, max_size=6)
BLANKS = st.text(" \t", min_size=1, max_size=3)
LINES = st.one_of(
    st.tuples(KEYS, BLANKS, KEYS, st.sampled_from(["", " ", "\r", "\t\r"])).map("".join),
    st.sampled_from(["", "# live green", "#live green", "lonely", "  "]),
)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINES, max_size=8), data=st.data())
def test_every_other_byte_of_any_map_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.map"
    margin, gap, end = data.draw(st.tuples(st.sampled_from(["", "  "]), BLANKS, st.sampled_from(["", " ", "\r"])))
    last = data.draw(st.sampled_from(["", "\n"]))
    at = data.draw(st.integers(0, len(lines)))

    def text(value: str) -> bytes:
        whole = [*lines[:at], f"{margin}live{gap}{value}{end}", *lines[at:]]
        return ("\n".join(whole) + last).encode()

    path.write_bytes(text("green"))
    file = MapFile(str(path))
    assert file.text("live") == "green"
    file.write("live", "blue")
    assert path.read_bytes() == text("blue")
    assert file.text("live") == "blue"


def test_a_key_that_the_map_file_does_not_have_is_added_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "live.map"
    for before, after in (("", "live blue\n"), ("a b", "a b\nlive blue\n"), ("a b\n", "a b\nlive blue\n")):
        path.write_text(before)
        MapFile(str(path)).write("live", "blue")
        assert path.read_text() == after


def test_a_map_file_that_says_so_already_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "live.map"
    path.write_text("live blue")
    before = path.stat()
    MapFile(str(path)).write("live", "blue")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def documented() -> list[str]:
    """Return the services of watcher.yaml that the documentation and the rule pack show for HAProxy."""
    section = (ROOT / "docs" / "switches.md").read_text().partition("\n## haproxy\n")[2].partition("\n## ")[0]
    pack = re.sub(r"^# ?", "", (ROOT / "rules" / "haproxy.yaml").read_text(), flags=re.M)
    return [
        *re.findall(r"^```yaml\n(may_turn_off:[^\n]*\nservices:\n.*?)^```", section, re.M | re.S),
        *map(textwrap.dedent, re.findall(r"^  may_turn_off:.*\n  services:\n(?:   +.*\n)+", pack, re.M)),
    ]


def test_three_configurations_are_documented() -> None:
    assert len(documented()) == 3


@pytest.mark.parametrize("text", documented(), ids=["canary", "blue-green", "rule pack"])
def test_a_configuration_that_is_documented_is_accepted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "watcher.yaml"
    path.write_text("journal: sqlite:///watcher.db\nmetrics: {prometheus: http://127.0.0.1:9090}\n" + text)
    [entry] = load_installation(path).services["shop"].releases
    key = switch_key(entry)
    assert key is not None
    assert key.startswith("haproxy:")
    switch(key)

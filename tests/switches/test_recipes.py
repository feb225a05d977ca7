"""What docs/switches.md shows of `webhook` and `command` is loaded, made and run: the recipes by a real kubectl."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.planted import plant, signing_key
from tests.servers.conftest import require
from tests.switches.cluster import Cluster
from tests.switches.fault_proxy import Fault, FaultProxy
from tests.switches.kills import kill
from watcher.config import filled_key, load_installation, switch_key
from watcher.errors import SwitchError
from watcher.model import Release, Stage
from watcher.switches import Switch, switch

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "switches.md"

ARGO, ISTIO, GATEWAY = "### Argo Rollouts", "### Istio VirtualService", "### Gateway API HTTPRoute"
SERVICE = "### Kubernetes Service, blue-green"
RECIPES = (ARGO, ISTIO, GATEWAY, SERVICE)

CASES = {
    ARGO: {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "status": {"canary": {"weights": {"stable": {"weight": 95}, "canary": {"weight": 5}}}},
    },
    ISTIO: {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "spec": {
            "http": [
                {
                    "route": [
                        {"destination": {"host": "shop", "subset": "stable"}, "weight": 95},
                        {"destination": {"host": "shop", "subset": "canary"}, "weight": 5},
                    ]
                }
            ]
        },
    },
    GATEWAY: {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "spec": {
            "rules": [{"backendRefs": [{"name": "shop-stable", "weight": 19}, {"name": "shop-canary", "weight": 1}]}]
        },
    },
    SERVICE: {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "shop", "version": "1.10"}}},
}
SHARES = {ARGO: 0.05, ISTIO: 0.05, GATEWAY: 0.05, SERVICE: None}

PLUGIN = """\
#!{python} -IS
# Does what the plugin of Argo Rollouts does for an abort.
import json, sys, urllib.request
action, name, option, namespace = sys.argv[1:]
assert (action, option) == ("abort", "-n")
path = f"/apis/argoproj.io/v1alpha1/namespaces/{{namespace}}/rollouts/{{name}}/status"
patch = json.dumps({{"status": {{"abort": True}}}}).encode()
headers = {{"Content-Type": "application/merge-patch+json"}}
urllib.request.urlopen(urllib.request.Request("{url}" + path, patch, headers, method="PATCH"), timeout=10).read()
print(f"rollout '{{name}}' aborted")
"""


def block(heading: str, language: str) -> str:
    """Return the first block of a section."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    assert section, f"{DOCUMENT}: there is no section {heading}"
    found = re.search(rf"^```{language}\n(.*?)^```$", re.split(r"^## ", section, flags=re.M)[0], re.M | re.S)
    assert found, f"{DOCUMENT}: {heading} has no block of {language}"
    return found[1]


def documented(heading: str, folder: Path) -> tuple[str, str]:
    """Return the keys of the switch of a section, as they are before there is a release and with one."""
    shop = "metrics: {prometheus: http://127.0.0.1:9090}\nservices:\n  shop:\n    rules: [checkout]\n"
    path = folder / "watcher.yaml"
    path.write_text(shop + textwrap.indent(block(heading, "yaml"), "    "), encoding="utf-8")
    found = load_installation(path)
    [entry] = found.services["shop"].releases
    feature = "shop" if entry.notice.label else "new-checkout"
    release = Release("shop", "production", feature, "1.10", entry.strategy, (Stage(60.0),), "1.9")
    unfilled, filled = switch_key(entry), filled_key(found, entry, release)
    assert unfilled
    assert filled
    return unfilled, filled


@pytest.mark.parametrize("heading", ["## webhook", "## command", *RECIPES])
def test_what_is_shown_is_a_switch_with_and_without_a_release(heading: str, tmp_path: Path) -> None:
    for key in documented(heading, tmp_path):
        assert key.startswith(("webhook:", "command:"))
        switch(key)


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, Any]]]:
    """The receiver that is shown, as it stands, on a port of its own; and the names it has."""
    (tmp_path / "secrets").mkdir()
    plant(tmp_path / "secrets" / "webhook", signing_key("right"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(block("## webhook", "python"), str(DOCUMENT), "exec"), names)
    monkeypatch.setattr(names["Receiver"], "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), names["Receiver"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", names
    server.shutdown()
    server.server_close()


def test_the_receiver_that_is_shown_turns_off_once_and_only_for_watcher(
    receiver: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    url, names = receiver
    _, key = documented("## webhook", tmp_path)
    own = key.replace("https://flags.example", url)
    killing = kill(switch(own), "new-checkout", tmp_path / "j.db")
    assert (killing.state, names["shares"], len(names["seen"])) == ("done", {"new-checkout": 0}, 1)
    names["shares"]["new-checkout"] = 0.05  # somebody turned it on again: the same message is not for that
    switch(own).kill("new-checkout", "errors tripled")
    assert names["shares"] == {"new-checkout": 0.05}
    with pytest.raises(SwitchError, match="HTTP 404"):
        switch(own).read("refunds")
    plant(tmp_path / "secrets" / "webhook", signing_key("wrong"))
    for call in (switch(own).read, lambda feature: switch(own).kill(feature, "")):
        with pytest.raises(SwitchError, match="HTTP 401"):
            call("new-checkout")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    require(None if shutil.which("kubectl") else "there is no kubectl (Debian: apt install kubernetes-client)")
    with Cluster() as found:
        yield found


Made = Callable[..., tuple[Switch, str]]


@pytest.fixture
def made(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Make a recipe's switch, and its object where kubectl finds it; return the switch and the object's path."""

    def make(heading: str, url: str | None = None) -> tuple[Switch, str]:
        plugin = tmp_path / "bin" / "kubectl-argo-rollouts"
        plugin.parent.mkdir()
        plugin.write_text(PLUGIN.format(python=sys.executable, url=url or cluster.url))
        plugin.chmod(0o755)
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig(url or cluster.url))
        kubectl = shutil.which("kubectl")
        assert kubectl
        monkeypatch.setenv("PATH", f"{plugin.parent}:{Path(kubectl).parent}:/usr/bin:/bin")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        script = plugin.parent / "switch-back"
        script.write_text(block(SERVICE, "sh"))
        script.chmod(0o755)
        answering(cluster, 2)
        path = cluster.put({**CASES[heading], "metadata": {"name": "shop", "namespace": "shop"}})
        return switch(documented(heading, tmp_path)[1]), path

    return make


@pytest.mark.servers
@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_reads_the_share_and_turns_off(heading: str, made: Made, cluster: Cluster, tmp_path: Path) -> None:
    found, path = made(heading)
    before = found.read("shop")
    assert (before.on, before.share) == (True, SHARES[heading])
    assert "passed" in found.dry_run("shop")
    assert cluster.changes == []
    killing = kill(found, "shop", tmp_path / "j.db")
    assert (killing.state, killing.pauses) == ("done", [])
    after = found.read("shop")
    assert (after.on, after.share) == (False, 0.0)
    assert cluster.changes == [path]
    assert found.dry_run("shop").startswith("shop is off already")


def answering(cluster: Cluster, pods: int) -> None:
    """Have so many pods of the previous version ready."""
    status = {"readyReplicas": pods} if pods else {}
    named = {"metadata": {"name": "shop-1.9", "namespace": "shop"}, "status": status}
    cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", **named})


@pytest.mark.servers
def test_a_service_is_not_switched_back_to_a_version_without_a_pod_that_is_ready(
    made: Made, cluster: Cluster, tmp_path: Path
) -> None:
    found, _ = made(SERVICE)
    answering(cluster, 0)
    with pytest.raises(SwitchError, match=r"shop-1.9 has no pod that is ready: nobody would answer"):
        found.dry_run("shop")
    killing = kill(found, "shop", tmp_path / "j.db")
    assert (killing.state, killing.pauses, cluster.changes) == ("failed", [], [])
    assert found.read("shop").on


@pytest.mark.servers
@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_may_run_again(heading: str, made: Made, cluster: Cluster) -> None:
    found, path = made(heading)
    found.kill("shop", "errors tripled")
    found.kill("shop", "errors tripled")
    assert not found.read("shop").on
    assert cluster.changes == [path]


@pytest.mark.servers
@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_whose_account_may_not_patch_fails_its_dry_run_and_its_kill(
    heading: str, made: Made, cluster: Cluster, tmp_path: Path
) -> None:
    found, _ = made(heading)
    cluster.denied = True
    with pytest.raises(SwitchError, match=r"kill\.command\.dry_run \((kubectl|switch-back)\): exit status 1: no"):
        found.dry_run("shop")
    killing = kill(found, "shop", tmp_path / "j.db", tries=1)
    assert killing.state == "intended"
    assert re.search("Forbidden|forbidden", killing.error)
    assert cluster.changes == []


@pytest.mark.servers
@pytest.mark.parametrize("heading", [ISTIO, SERVICE])
def test_a_recipe_whose_answer_is_lost_turns_off_once(
    heading: str, made: Made, cluster: Cluster, tmp_path: Path
) -> None:
    with FaultProxy(cluster.url) as proxy:
        found, path = made(heading, proxy.url)
        proxy.fail(Fault(applied=True))
        killing = kill(found, "shop", tmp_path / "j.db")
        assert (killing.state, len(killing.pauses)) == ("done", 1)
        assert cluster.changes == [path]
        assert len(proxy.writes) == 1
        proxy.stop()
        with pytest.raises(SwitchError, match=r"exit status 1: .*refused"):
            found.read("shop")


@pytest.mark.servers
def test_a_missing_object_is_an_error(made: Made, cluster: Cluster) -> None:
    found, path = made(GATEWAY)
    del cluster._objects[path]
    with pytest.raises(SwitchError, match=r"kill\.command\.read \(kubectl\): exit status 1: .*NotFound"):
        found.read("shop")


@pytest.mark.servers
def test_a_controller_that_takes_a_moment_is_waited_for(made: Made, cluster: Cluster, tmp_path: Path) -> None:
    found, path = made(ARGO)
    cluster.lag = 2  # the answer to the abort, and the reading after it
    killing = kill(found, "shop", tmp_path / "j.db")
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert cluster.changes == [path]


@pytest.mark.servers
def test_a_rollout_that_everybody_has_is_on_and_its_share_is_not_guessed(made: Made, cluster: Cluster) -> None:
    found, path = made(ARGO)
    cluster.get(path)["status"]["canary"]["weights"] = {"stable": {"weight": 100}, "canary": {"weight": 0}}
    state = found.read("shop")
    assert (state.on, state.share) == (True, None)


@pytest.mark.servers
@pytest.mark.parametrize("heading", [ISTIO, GATEWAY])
def test_a_patch_does_not_touch_routes_in_another_order(heading: str, made: Made, cluster: Cluster) -> None:
    found, path = made(heading)
    spec = cluster.get(path)["spec"]
    (spec["http"][0]["route"] if heading == ISTIO else spec["rules"][0]["backendRefs"]).reverse()
    before = json.dumps(cluster.get(path))
    assert found.read("shop").share == 0.05
    with pytest.raises(SwitchError, match=r"kill\.command\.kill \(kubectl\): exit status 1"):
        found.kill("shop", "errors tripled")
    assert json.dumps(cluster.get(path)) == before


@pytest.mark.servers
def test_a_weight_that_is_left_out_is_not_guessed(made: Made, cluster: Cluster) -> None:
    found, path = made(GATEWAY)
    del cluster.get(path)["spec"]["rules"][0]["backendRefs"][1]["weight"]
    with pytest.raises(SwitchError, match="says '19', which is neither what it says when on, nor when off"):
        found.read("shop")

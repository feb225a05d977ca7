"""The page and the JSON of the same: what is on them, for whoever asks, from the journal alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import openapi_spec_validator
import pytest
from starlette.testclient import TestClient

from tests import showroom
from tests.report.test_release_page import Read
from tests.timeline import EXPOSED, MINUTE, release, watch
from watcher import interlocks
from watcher.config import Installation
from watcher.journal import Journal
from watcher.server import application
from watcher.server.openapi import description

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Journal, str]]:
    installation = showroom.installed(tmp_path_factory.mktemp("showroom"))
    with closing(Journal.open(installation.journal)) as journal:
        yield installation, journal, showroom.furnish(journal, past=120)


@pytest.fixture
def bad(furnished: tuple[Installation, Journal, str]) -> str:
    return furnished[2]


@pytest.fixture
def journal(furnished: tuple[Installation, Journal, str]) -> Journal:
    return furnished[1]


@pytest.fixture
def client(furnished: tuple[Installation, Journal, str]) -> Iterator[TestClient]:
    installation, journal, _ = furnished
    with TestClient(application(installation, journal, lambda: showroom.NOW)) as client:
        yield client


def text(page: str) -> str:
    return " ".join(" ".join(Read(page).said).split())


def test_the_list_has_what_is_watched_and_what_was_fifty_at_a_time(client: TestClient) -> None:
    first = client.get("/")
    said = text(first.text)
    assert "2 being watched" in said
    assert said.index("search@2.4") < said.index("gift-cards@7") < said.index("new-checkout@1.3.0")
    assert "not looked at yet waiting for the first look" in said
    seen, page, pages = set(), first.text, 0
    while True:
        seen |= set(re.findall(r'href="(/releases/[^"]*)"', page))
        pages += 1
        older = re.search(r'href="(/\?[^"]*)" rel="next"', page)
        if older is None:
            break
        page = client.get(older[1].replace("&amp;", "&")).text
    assert (pages, len(seen)) == (3, 123), "each release is on one page or another"
    assert all(client.get(each).status_code == 200 for each in sorted(seen)[:5])


def test_names_are_looked_for_as_they_are_written_whatever_the_case(client: TestClient) -> None:
    assert set(re.findall(r'href="(/releases/[^"]*)"', client.get("/?q=NEW-check").text)) == {
        "/releases/shop/production/new-checkout%401.3.0"
    }
    assert client.get("/", params={"before": "9" * 5000}).status_code == 200
    nothing = text(client.get("/", params={"q": "%"}).text)
    assert "None that is being watched is called that." in nothing
    assert "None is called that." in nothing
    assert '"><b>' not in client.get("/", params={"q": '"><b>'}).text


def test_what_holds_watcher_back_is_said_first(client: TestClient, journal: Journal) -> None:
    before = client.get("/").headers["etag"]
    interlocks.pause(journal, 600.0, "a migration", "ops", showroom.NOW)
    held = client.get("/")
    assert "a migration" in text(held.text)
    assert held.headers["etag"] != before
    interlocks.resume(journal, "ops", showroom.NOW)
    assert "a migration" not in text(client.get("/").text)


def test_a_release_is_shown_with_all_there_is_to_know(client: TestClient, bad: str) -> None:
    answer = client.get(f"/releases/{bad}")
    said = text(answer.text)
    order = ("REGRESSED, decided", "mode armed; kill switch: yaml_flags", "Every rule, the worst first", "Where it is")
    order += ("Over time", "Who has it", "Done, refused and told", "Checklist", "Why")
    places = [said.index(each) for each in order]
    assert places == sorted(places)
    for each in (
        "The release gets 24.", "25 % is configured.",
        "kill done: read back 0 % in memory, before 25 % in memory",
        "refused: kill, not_held",
        "People are told warn no stakeholders are named in `tell`",
        "errors: 2 regressed",
    ):  # fmt: skip
        assert each in said
    assert 'href="https://wiki.example/shop"' in answer.text


def test_where_harm_is_is_named_with_its_share(client: TestClient, bad: str) -> None:
    said = text(client.get(f"/releases/{bad}").text)
    for label, sick, others in (("browser", "safari", 2), ("region", "eu", 2)):
        table = said[said.index(f"Requests that failed by {label}") :]
        shares = re.findall(r"(\w+) (regressed|inconclusive|healthy) \S+/\S+ \S+ [+−]\S+ (\d+) %", table)[: 1 + others]
        assert shares[0][:2] == (sick, "regressed")
        assert int(shares[0][2]) > 85
        assert sum(int(share) for *_, share in shares) in (99, 100, 101)


def test_pictures_are_fetched_when_they_come_into_view_and_say_what_they_show(client: TestClient, bad: str) -> None:
    page = client.get(f"/releases/{bad}").text
    images = [attributes for tag, attributes in Read(page).tags if tag == "img"]
    assert {str(each["src"]).split("/")[2] for each in images} == {"forest", "effect", "arms", "shift"}
    for each in images:
        assert each["loading"] == "lazy"
        assert each["alt"]
        drawn = client.get(str(each["src"]))
        assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml")
        assert "<svg " in drawn.text
        if each.get("width"):
            width, height = (float(x) for x in re.findall(r'(?:width|height)="([\d.]+)pt"', drawn.text)[:2])
            assert int(str(each["width"])) / int(str(each["height"])) == pytest.approx(width / height, rel=0.02)


def test_every_stream_has_a_page_of_its_own(client: TestClient, bad: str) -> None:
    page = client.get(f"/releases/{bad}").text
    links = [str(attributes["href"]) for tag, attributes in Read(page).tags if tag == "a"]
    streams = sorted({link for link in links if link.startswith("/streams/")})
    assert len(streams) == 18 + 3 + 1
    told = text(client.get(next(each for each in streams if "page-load" in each and "eu" in each)).text)
    assert "evidence of harm log e" in told
    assert "how it grew log e of harm" in told


@pytest.mark.parametrize(
    "path",
    [
        "/releases/shop/production/none@1",
        "/streams/{bad}?rule=errors",
        "/streams/shop/production/gift-cards@7?rule=errors",
        "/charts/effect/{bad}?rule=errors&label=feature",
        "/charts/shift/{bad}?rule=completion",
        "/charts/pie/{bad}?rule=completion",
        "/charts/forest/shop/production/gift-cards@7",
        "/v1/releases/none",
    ],
)
def test_what_there_is_not_is_said(client: TestClient, bad: str, path: str) -> None:
    answer = client.get(path.format(bad=bad))
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_a_release_that_was_not_looked_at_yet_is_shown_too(client: TestClient) -> None:
    said = text(client.get("/releases/shop/production/gift-cards@7").text)
    assert "Not looked at yet." in said
    assert "watch not looked at yet, until" in said
    assert client.get("/v1/releases/shop/production/gift-cards@7").json()["comparison"] is None


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(tmp_path: Path) -> None:
    installation = showroom.installed(tmp_path)
    with Journal.open(installation.journal) as journal, TestClient(
        application(installation, journal, lambda: showroom.NOW)
    ) as client:  # fmt: skip
        bad = showroom.furnish(journal, past=0, minutes=20)
        for path in ("/", f"/releases/{bad}"):
            first = client.get(path)
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            journal.audit(showroom.NOW, bad, "accepted", {"rule": "errors", "by": "ann", "reason": "known"})
            changed = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert changed.status_code == 200
        assert "accepted: errors by ann: known" in text(changed.text)


def test_nobody_is_led_elsewhere_and_nothing_runs_but_what_watcher_serves(client: TestClient, bad: str) -> None:
    for path in ("/", f"/releases/{bad}", f"/streams/{bad}?rule=completion"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        scripts = [attributes for tag, attributes in Read(answer.text).tags if tag == "script"]
        assert all(each["src"] == "/page.js" for each in scripts)
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")


def test_words_from_outside_are_words(tmp_path: Path) -> None:
    installation = showroom.installed(tmp_path)
    sly = release(feature="<img src=x>", version='"#/?&1', stages=watch().release.stages)
    with Journal.open(installation.journal) as journal, TestClient(
        application(installation, journal, lambda: showroom.NOW)
    ) as client:  # fmt: skip
        journal.add_release(watch(release=sly), EXPOSED, "<script>")
        (link,) = re.findall(r'href="(/releases/[^"]*)"', client.get("/").text)
        page = client.get(link)
        assert page.status_code == 200
        tags = {tag for tag, _ in Read(page.text).tags}
        assert "img" not in tags
        assert "<img src=x>" in text(page.text)
        assert client.get(f"/v1/releases/{quote(sly.id)}").json()["release"] == sly.id


# --- JSON -----------------------------------------------------------------------------------------------------------


def checked(client: TestClient, path: str, model: str) -> Any:
    """Return an answer that is what the description of the interface says."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    whole = {"$ref": f"#/components/schemas/{model}", **description()}
    jsonschema.Draft202012Validator(whole).validate(answer.json())
    return answer.json()


def test_the_description_is_openapi_and_served(client: TestClient) -> None:
    served = client.get("/openapi.json").json()
    openapi_spec_validator.validate(served)
    assert served == description()
    routes = {route.path for route in client.app.routes}  # type: ignore[attr-defined]
    described = {path.replace("{release}", "{release:path}") for path in served["paths"]}
    assert described == {path for path in routes if path.startswith("/v1/") and path != "/v1/slack"}


def test_releases_are_listed_a_hundred_at_a_time(client: TestClient) -> None:
    active = checked(client, "/v1/releases", "ReleaseList")
    assert {each["release"] for each in active["releases"]} == {
        "shop/production/search@2.4",
        "shop/production/gift-cards@7",
    }
    first = checked(client, "/v1/releases?active=false", "ReleaseList")
    rest = checked(client, f"/v1/releases?active=false&before={first['next']}", "ReleaseList")
    assert (len(first["releases"]), len(rest["releases"]), rest["next"]) == (100, 21, None)
    assert first["releases"][0]["status"] == "recovered"
    for query in ("active=maybe", "before=x", "before=", f"before={'9' * 30}"):
        assert client.get(f"/v1/releases?{query}").status_code == 422


def test_a_release_is_told_whole(client: TestClient, bad: str) -> None:
    told = checked(client, f"/v1/releases/{bad}", "ReleaseAnswer")
    assert (told["status"], told["comparison"]["outcome"]) == ("recovered", "regressed")
    assert [stage["share"] for stage in told["stages"]] == [0.05, 0.25]
    assert told["split"].startswith("The release gets")
    assert {"kill intended", "kill done", "refused", "told"} <= {each["what"] for each in told["actions"]}
    for part, schema in (("comparison", "comparison"), ("preflight", "preflight")):
        jsonschema.validate(told[part], json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    assert told["killed_at"] == f"2027-01-15T08:{(showroom.FROM + 10) * MINUTE / 60:02.0f}:00Z"

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

from tests.report.examples import HEALTHY, INCONCLUSIVE, REGRESSED, everything, findings, many
from watcher.model import labels
from watcher.report import release_page
from watcher.report.release_page import Drawn

PICTURE = '<svg role="img" aria-label="shown"><path id="m012345abcd"/><use href="#m012345abcd"/></svg>'


class Read(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.rows: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], "not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append("")
        if tag not in ("meta", "img", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)
        if "tr" in self.open:
            self.rows[-1] += f" {' '.join(data.split())}"

    def count(self, tag: str) -> int:
        return sum(each == tag for each, _ in self.tags)


def drawn(found: object, size: int = 0) -> Iterator[Drawn]:
    for verdict in found.streams:  # type: ignore[attr-defined]
        yield Drawn(verdict, (PICTURE, PICTURE.replace("<path", f"<desc>{'x' * size}</desc><path")))


def test_the_page_says_the_verdict_first_then_every_stream_then_why() -> None:
    found = everything(warnings=("rows dropped",))
    read = Read(release_page.page(found, PICTURE, drawn(found)))
    text = " ".join("".join(read.said).split())
    order = ["new-checkout 1.2.0 in shop/production", "REGRESSED, decided 10:34 UTC", REGRESSED.reason]
    order += ["Alarm: absent_treatment", "Warning: rows dropped", "Every rule, the worst first", "Over time", "Why"]
    places = [text.index(each, text.index("REGRESSED, decided") if each == "Why" else 0) for each in order]
    assert places == sorted(places)
    assert sum(any(f" {each.rule} " in row for each in found.streams) for row in read.rows) == len(found.streams)
    folded = len(found.streams) - release_page.MOST_OPEN
    assert read.count("article") == release_page.MOST_OPEN
    assert read.count("details") == len(found.streams) + folded + 1, "derivations, pictures, and where harm is"
    assert read.count("svg") == 1 + 2 * len(found.streams)
    assert "evidence of harm" in text


def test_the_page_needs_nothing_beside_itself_runs_nothing_and_names_each_thing_once() -> None:
    found = everything()
    page = release_page.page(found, PICTURE, drawn(found))
    read = Read(page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in read.tags}
    assert "http" not in page.replace("http://www.w3.org", "")
    names = [str(attributes["id"]) for _, attributes in read.tags if "id" in attributes]
    assert len(names) == len(set(names))
    used = {str(attributes["href"])[1:] for tag, attributes in read.tags if tag == "use"}
    assert used <= set(names)
    labelled = {str(attributes["aria-labelledby"]) for _, attributes in read.tags if "aria-labelledby" in attributes}
    assert labelled <= set(names)
    assert all(attributes.get("aria-label") for tag, attributes in read.tags if tag == "svg")


def test_a_page_of_hundreds_of_streams_keeps_below_two_megabytes_the_worst_with_pictures() -> None:
    found = many(500)
    page = release_page.page(found, "", drawn(found, size=100_000))
    assert len(page.encode()) < 2_000_000
    read = Read(page)
    drawn_of = read.count("article") + sum(str(each.get("id")).startswith("stream-") for _, each in read.tags)
    assert drawn_of == 17
    shown = release_page.MOST_OF_A_RULE
    assert f"request-errors: {500 - shown} more streams" in "".join(read.said)
    assert any(f"1 regressed, 499 healthy; {500 - shown} more below, none worse" in row for row in read.rows)
    assert sum(" part-" in row and " request-errors" in row for row in read.rows) == 500, "each stands in one table"
    folded = 17 - release_page.MOST_OPEN
    assert read.count("details") == release_page.MOST_DETAILS + folded + 2, "other streams, and where harm is"
    assert "and 300 more, none worse" in "".join(read.said)


def test_labels_and_reasons_from_outside_are_text() -> None:
    sly = replace(REGRESSED, labels=labels({"feature": '"><script>x</script>'}), reason="<b onload=x> & so")
    found = findings(sly, HEALTHY, INCONCLUSIVE)
    read = Read(release_page.page(found, "", drawn(found)))
    assert not {"script", "b"} & {tag for tag, _ in read.tags}
    assert "<b onload=x> & so" in "".join(read.said)


def test_findings_without_streams_are_a_page_too() -> None:
    read = Read(release_page.page(findings(), "", iter(())))
    assert read.count("table") == read.count("svg") == 0
    assert "NO DATA" in "".join(read.said)

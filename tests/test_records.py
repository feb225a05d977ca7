"""What a daemon recorded, looked at again in a notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import watcher
from tests.timeline import EXPOSED, MINUTE, looks, ratio, watch
from watcher.errors import JournalError, Refused
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import Outcome
from watcher.testing import MemorySource

RELEASE, FEATURE = watch().release.id, watch().release.feature
LOOKS = range(1, 40)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of one release that broke 20 minutes after exposure and was turned off."""
    path, made, source = tmp_path / "watcher.db", watch(), MemorySource({"errors": ratio(treated={20: 0.05})})
    with Journal.open(f"sqlite:///{path}") as opened:
        opened.add_release(made, EXPOSED, "test")
        opened.record_calibrations(RELEASE, prepare(made, read_history(made, source)), EXPOSED)
        for look in looks(made, source, LOOKS):
            opened.record_look(look)
    return path


def test_a_journal_lists_its_releases(journal: Path) -> None:
    recorded = watcher.open_journal(journal)
    (row,) = recorded.to_frame().to_dict("records")
    assert (row["release"], row["feature"], row["status"], row["outcome"]) == (RELEASE, FEATURE, "active", "regressed")
    assert row["exposed_at"] == pd.Timestamp(EXPOSED, unit="s", tz="UTC")
    assert RELEASE in recorded._repr_html_()
    assert repr(recorded).endswith("1 releases>")


def test_a_release_that_was_not_looked_at_yet_is_listed_and_cannot_be_compared(tmp_path: Path) -> None:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as opened:
        opened.add_release(watch(), EXPOSED, "test")
    recorded = watcher.open_journal(tmp_path / "watcher.db")
    assert recorded.to_frame()[["outcome", "phase", "reason"]].to_numpy().tolist() == [["", "", ""]]
    assert recorded.looks(FEATURE).empty
    with pytest.raises(Refused, match="was not looked at yet"):
        recorded.comparison(FEATURE)


def test_the_looks_of_a_release_are_a_row_each(journal: Path) -> None:
    found = watcher.open_journal(f"sqlite:///{journal}").looks(FEATURE)
    assert (found["at"].diff().dropna() == pd.Timedelta(MINUTE, unit="s")).all()
    assert found["at"].iloc[0] == pd.Timestamp(EXPOSED + MINUTE, unit="s", tz="UTC")
    assert (found["outcome"] == "regressed").iloc[-1]
    assert not (found["outcome"] == "regressed").iloc[:19].any()


def test_a_release_is_compared_again_and_its_last_look_shows_itself(journal: Path) -> None:
    found = watcher.open_journal(journal).comparison(FEATURE)
    assert found.outcome == "regressed"
    assert found.chart("effect").axes
    look = found.look
    assert isinstance(look, watcher.Look)
    shown = look._repr_html_()
    assert ">REGRESSED</strong>" in shown
    assert RELEASE in shown
    assert repr(look).startswith("<Look regressed at ")
    (row,) = look.to_frame().to_dict("records")
    assert (row["rule"], row["outcome"]) == ("errors", "regressed")
    assert row["log_e_regressed"] > row["threshold"]


def test_a_look_shows_what_it_did_and_what_it_refused(journal: Path) -> None:
    made, source = watch(), MemorySource({"errors": ratio(treated={20: 0.05})})
    shown = [watcher.Look.of(each)._repr_html_() for each in looks(made, source, LOOKS)]
    assert sum("Turned off" in each for each in shown) == 1
    assert any("<strong>Told</strong>" in each for each in shown)


def test_the_worst_stream_of_a_look_stands_first_and_its_labels_are_columns(journal: Path) -> None:
    look = watcher.open_journal(journal).comparison(FEATURE).look
    (bad,) = look.verdict.streams
    good = replace(bad, outcome=Outcome.HEALTHY, labels=(("feature", "search"), ("rule", "x")), reason="fine")
    both = replace(look, verdict=replace(look.verdict, streams=(good, bad)))
    frame = both.to_frame()
    assert frame["outcome"].tolist() == ["regressed", "healthy"]
    assert frame.loc[1, ["feature", "label_rule"]].tolist() == ["search", "x"]
    shown = both._repr_html_()
    assert shown.index(">regressed</td>") < shown.index(">healthy</td>")
    assert "feature=search, rule=x" in shown


def test_labels_are_shown_as_text(journal: Path) -> None:
    look = watcher.open_journal(journal).comparison(FEATURE).look
    hostile = replace(look, release="<script>")
    assert "<script>" not in hostile._repr_html_()


def test_where_there_is_no_journal_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"there is no journal .*nowhere\.db"):
        watcher.open_journal(tmp_path / "nowhere.db")
    assert list(tmp_path.iterdir()) == []


def test_a_release_that_is_not_there_is_refused(journal: Path) -> None:
    with pytest.raises(Refused, match="there is no release 'other'"):
        watcher.open_journal(journal).comparison("other")

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.report.examples import ABSENT, DORMANT, EXPOSED, HEALTHY, INCONCLUSIVE, REGRESSED, many, watch
from watcher.model import Look, ReleaseVerdict, Verdict, labels
from watcher.report import live


def a_look(*streams: Verdict, **more: object) -> Look:
    outcome, reason = (streams[0].outcome, streams[0].reason) if streams else (HEALTHY.outcome, "nothing")
    made = Look("r", EXPOSED + 3000, EXPOSED + 2940, 49, ReleaseVerdict(outcome, reason, streams))
    return replace(made, **more)  # type: ignore[arg-type]


def printed(look: Look, width: int, height: int = 40, done: tuple[str, ...] = ()) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=True)
    with console.capture() as said:
        console.print(live.view(watch(), look, done, width, height))
    return [line.rstrip() for line in said.get().splitlines()]


def test_a_wide_terminal_shows_how_far_the_evidence_of_every_rule_is() -> None:
    lines = printed(a_look(REGRESSED, HEALTHY, INCONCLUSIVE, ABSENT, DORMANT), 120, done=("10:31 kill done: off",))
    assert lines[0].startswith("REGRESSED  new-checkout 1.2.0 in shop/production")
    assert lines[1] == "watching, 50 min of 24 h; mode observe; last look 11:10 UTC"
    row = next(line for line in lines if line.startswith("Requests that failed on checkout  "))
    assert "2.1x (1.4 to 3.2)" in row
    assert "━━━━━━━━  9.2/5.3" in row
    assert row.endswith("10:34")
    assert lines[-1] == "10:31 kill done: off"
    assert max(map(len, lines)) <= 120


def test_a_narrow_terminal_keeps_outcomes_bars_and_times_whole() -> None:
    lines = printed(a_look(REGRESSED, INCONCLUSIVE), 80)
    row = next(line for line in lines if "  regressed  " in line)
    assert row.startswith("Requests that")
    assert "regressed     2.1x" in row
    assert "━━━━━━━━  ········" in row
    assert row.endswith("10:34")
    assert max(map(len, lines)) <= 80


def test_of_many_streams_as_many_are_shown_as_there_are_lines_for_the_worst_first() -> None:
    lines = printed(a_look(*many(500).verdict.streams), 100, height=30)
    assert "and 482 more, none worse" in lines
    assert len(lines) <= 30
    (first,) = (line for line in lines if "regressed" in line)
    assert lines.index(first) == lines.index(next(line for line in lines if line.startswith("rule"))) + 1


def test_a_look_that_could_not_read_says_so_and_one_without_streams_is_no_table() -> None:
    lines = printed(a_look(problem="the server\x1b[31m is gone"), 80)
    assert "metrics: the server [31m is gone" in lines
    assert "nothing is compared yet" in lines


def test_a_line_is_the_outcome_the_phase_and_the_reason_whatever_stands_in_them() -> None:
    sly = replace(REGRESSED, labels=labels({"feature": "x"}), reason="worse\n\x1b[2J")
    assert live.line(a_look(sly)) == "REGRESSED  worse  [2J"
    assert live.line(a_look(sly, phase="killed")).startswith("REGRESSED (killed)  ")

"""The answer of a comparison: printed in the format asked for, written to a file, and as an exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from watcher.oneoff import Comparison, Comparisons
    from watcher.report.release_page import Beside


def answer(found: Comparison | Comparisons, given: dict[str, Any]) -> None:
    """Print the answer in the format asked for, and exit with its code."""
    if not given["quiet"] or given["output"]:
        text = formatted(found, given["format"], given["explain"], bool(given["output"]))
        if given["output"]:
            write(given["output"], text)
        if not given["quiet"]:
            click.echo(text, nl=False)
    if given["report"]:
        write_report(given["report"], found)
    if given["format"] == "github":
        _tell_the_job(found)
    raise click.exceptions.Exit(exit_code(found.outcome.value, given["fail_on"]))


def write(path: str, text: str) -> None:
    """Write an answer to a file; click says it when that fails."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


def write_report(path: str, found: Comparison | Comparisons, beside: Beside | None = None) -> None:
    """Write the page on a release; `beside` is what else is known of it.

    Raises:
        Refused: there are several.
    """
    from watcher.errors import Refused
    from watcher.oneoff import report
    from watcher.report.progress import bar

    parts = _parts(found)
    if len(parts) != 1:
        raise Refused(
            f"--report is of one release, and here are {len(parts)}: keep one, or use `watcher backtest --report`"
        )
    with bar("drawing"):
        page = report.report(parts[0], beside)
    write(path, page)


def _tell_the_job(found: Comparison | Comparisons) -> None:
    """Give the GitHub job this runs in the outcome, and add to its summary what there is room for."""
    from watcher.report import github

    outcome, summary = os.environ.get("GITHUB_OUTPUT"), os.environ.get("GITHUB_STEP_SUMMARY")
    if outcome:
        _add(outcome, lambda _: f"outcome={found.outcome.value}\n")
    if summary:
        several = [part.findings for part in _parts(found)]
        _add(summary, lambda size: github.summary(several, github.LARGEST - size))


def _add(path: str, text: Callable[[int], str]) -> None:
    """Add a text to a file, given how many bytes that has."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text(file.tell()))
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


def _parts(found: Comparison | Comparisons) -> list[Comparison]:
    return list(found) if isinstance(found, Sequence) else [found]


def formatted(found: Comparison | Comparisons, form: str, explain: bool, plain: bool) -> str:
    """Return an answer in a format; in a table with the whole derivation, or for a file, where that is asked for."""
    import json

    parts = _parts(found)
    if form == "json":
        return json.dumps(found.to_json(), indent=2) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(part.to_json()) + "\n" for part in parts)
    if form in ("junit", "github"):
        from watcher.report import github, junit

        several = [part.findings for part in parts]
        return junit.render(several) if form == "junit" else github.commands(several)
    from watcher.report.cells import word

    if form == "markdown":
        from watcher.report import markdown

        first = f"**{word(found.outcome)}** {markdown.escaped(found.reason)}\n\n" if len(parts) > 1 else ""
        return first + "\n".join(markdown.render(part.findings) for part in parts)
    from watcher.report import terminal

    first = f"{word(found.outcome)}  {found.reason}\n\n" if len(parts) > 1 else ""
    return first + "\n".join(
        terminal.text(part.explained() if explain else part.findings, explain=explain, plain=plain) for part in parts
    )


def exit_code(outcome: str, fail_on: str) -> int:
    """Return 0 healthy, 1 regressed, 3 undecided; `--fail-on` forgives what it says.

    >>> exit_code("inconclusive", "inconclusive"), exit_code("inconclusive", "regressed"), exit_code("no_data", "never")
    (3, 0, 0)
    """
    if outcome == "healthy" or fail_on == "never":
        return 0
    if outcome == "regressed":
        return 1
    return 0 if fail_on == "regressed" and outcome == "inconclusive" else 3

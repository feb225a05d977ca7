"""What the documentation shows is run, and what it points at exists.

In every Markdown file a `python` block that contains `>>>`, or that stands below the comment `<!-- run -->`, is
executed: a transcript as a doctest, a script as it stands. The blocks of a file share their names, in order, and run
in a folder of their own.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"})
FOLDERS = (".ci", ".github", "docs", "notebooks", "rules", "schemas", "scripts", "tests", "watcher")
TOP_FILES = re.compile(r"[A-Z]+\.md|pyproject\.toml")

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.M)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins on, and whether it is to be run."""

    language: str
    text: str
    line: int
    marked: bool

    @property
    def runs(self) -> bool:
        return self.language == "python" and (self.marked or ">>>" in self.text)


def blocks(markdown: str) -> Iterator[Block]:
    """Yield every fenced block, without its indentation."""
    for found in _FENCE.finditer(markdown):
        before, indent = markdown[: found.start()], len(found["indent"])
        text = re.sub(rf"^ {{0,{indent}}}", "", found["text"], flags=re.M)
        marked = before.rstrip().endswith("<!-- run -->")
        yield Block(found["language"].strip(), text, before.count("\n") + 2, marked)


def run(markdown: str, name: str) -> list[str]:
    """Run the blocks that ask for it; return what went wrong."""
    names: dict[str, object] = {"__name__": "__main__"}
    said: list[str] = []
    for block in filter(lambda each: each.runs, blocks(markdown)):
        if ">>>" in block.text:
            said += _transcript(block, names, name)
            continue
        try:
            exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), names)
        except Exception as problem:  # noqa: BLE001  (whatever an example raises is a broken example)
            said.append(f"{name}:{block.line}: {type(problem).__name__}: {problem}")
    return said


def _transcript(block: Block, names: dict[str, object], name: str) -> list[str]:
    said: list[str] = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
    example = doctest.DocTestParser().get_doctest(block.text, names, name, name, block.line - 1)
    doctest.DocTestRunner(verbose=False, optionflags=options).run(example, out=said.append, clear_globs=False)
    names.update(example.globs)
    return said


def dead_links(markdown: str, folder: Path) -> list[str]:
    """Return relative links to files that do not exist, and links to headings that do not."""
    prose = _INLINE.sub("", _FENCE.sub("", markdown))
    dead = []
    for target in (next(filter(None, found)) for found in _LINK.findall(prose)):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target):
            continue
        path, _, heading = unquote(target).partition("#")
        file = folder / path if path else None
        if file is not None and not file.exists():
            dead.append(target)
        elif heading and (file is None or file.suffix == ".md"):
            text = markdown if file is None else file.read_text(encoding="utf-8")
            dead += [] if heading in anchors(text) else [target]
    return dead


def anchors(markdown: str) -> set[str]:
    """Return the anchors that headings get.

    >>> sorted(anchors("# What it does\\n\\n## `watcher compare`, in CI\\n"))
    ['watcher-compare-in-ci', 'what-it-does']
    """
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(_FENCE.sub("", markdown))
    }


def missing_paths(markdown: str) -> list[str]:
    """Return what stands in backticks and looks like a path of this repository, but is none; a `*` matches any name."""
    missing = []
    for text in _INLINE.findall(_FENCE.sub("", markdown)):
        path = text.removeprefix("./").rstrip("/")
        if not re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*", path):
            continue
        below = path.split("/")[0] in FOLDERS and "/" in path
        if (below or TOP_FILES.fullmatch(path)) and not any(ROOT.glob(path)):
            missing.append(text)
    return missing


def missing_targets(markdown: str) -> list[str]:
    """Return `make` targets that are shown, in backticks or at the start of a line, and do not exist."""
    shown = re.findall(r"(?:`|^\s*(?:\$ )?)make ([a-z]+)", markdown, re.M)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    return [target for target in shown if target not in targets]


def read(document: Path) -> str:
    assert document.exists(), f"{document.name} is missing; pip cannot build the package without README.md either"
    return document.read_text(encoding="utf-8")


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@each_document
def test_every_example_runs_and_says_what_is_shown(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = read(document)
    monkeypatch.chdir(tmp_path)
    said = run(text, document.name)
    assert not said, "\n".join(said)


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    assert dead_links(read(document), document.parent) == []


@each_document
def test_every_path_that_is_named_exists(document: Path) -> None:
    assert missing_paths(read(document)) == []


@each_document
def test_every_make_target_that_is_shown_exists(document: Path) -> None:
    assert missing_targets(read(document)) == []


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("```python\n>>> 1 + 1\n3\n```\n", "1 + 1"),
        ("```python\n>>> 1 / 0\n```\n", "ZeroDivisionError"),
        ("<!-- run -->\n```python\nassert 1 == 2\n```\n", "x.md:3: AssertionError"),
        ("1. First\n\n   ```python\n   >>> 1 + 1\n   3\n   ```\n", "1 + 1"),
    ],
)
def test_an_example_that_is_wrong_is_found(markdown: str, said: str) -> None:
    assert said in "".join(run(markdown, "x.md"))


def test_blocks_share_their_names_and_a_sketch_is_not_run() -> None:
    first, sketch = "```python\n>>> a = 2\n>>> def f(): return a\n\n```\n", "```python\na = undefined(...)\n```\n"
    assert run(first + sketch + "<!-- run -->\n```python\nassert f() == a == 2\n```\n", "x.md") == []


def test_dead_links_and_paths_are_found() -> None:
    markdown = (
        "[a](gone.md) ![b](LICENSE) [c](https://x.org/gone) [d](#here) [e](#nowhere) `[f](code.md)`\n\n## Here!\n"
    )
    assert dead_links(markdown, ROOT) == ["gone.md", "#nowhere"]
    named = (
        "`watcher/errors.py`, `watcher/gone.py`, `rules/*.yaml`, `rules/*.gone`, `config/flags.yaml`, `GONE.md`, `a/b`"
    )
    assert missing_paths(named) == ["watcher/gone.py", "rules/*.gone", "GONE.md"]
    assert missing_targets("Run `make test`, not `make gone`.\n\n    make demo\n") == ["gone"]

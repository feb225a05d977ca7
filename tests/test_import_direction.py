"""Who may import whom, what is pure, and what things may be called."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import watcher

PACKAGE = Path(__file__).resolve().parents[1] / "watcher"

# A part is a module or package directly below watcher. Everything sees itself, and what stands here.
NOUNS = {"model", "errors"}
CALIBRATION = NOUNS | {"evidence"}
COMPARISON = CALIBRATION | {"calibration"}
JUDGE = COMPARISON | {"comparison", "reasons"}
POLICY = JUDGE | {"judge", "attribution", "stakeholders", "telling", "wording"}
LOOK = POLICY | {"policy", "aftermath"}
CONFIG = NOUNS | {"secrets", "addresses", "tokens", "signing", "config"}
ONEOFF = LOOK | CONFIG | {"look", "sources", "releases", "report"}
INTAKE = CONFIG | LOOK | {"journal", "deployments"}
CLEARANCE = CONFIG | {"journal", "report"}
JOURNALLED = ONEOFF | {"journal", "oneoff", "deeds"}
OUTSIDE = {"sources", "releases", "switches", "alerts", "journal", "delivery", "act", "replies"}
STEPS = {
    "overview",
    "following",
    "recorded",
    "illustrating",
    "sample",
    "replying",
    "surroundings",
    "deployments",
    "intake",
    "interlocks",
    "noticing",
    "observer",
    "afterwards",
    "clearance",
    "nightly",
}
PREFLIGHT = ONEOFF | OUTSIDE | {"oneoff", "deployments", "intake", "clearance", "nightly"}
DAEMON = PREFLIGHT | STEPS | {"preflight", "daemon", "server", "deeds"}
DRILL = INTAKE | {"act", "switches", "report"}
DOCTOR = DAEMON | {"assembly", "drill", "clock"}
RECORDS = JOURNALLED | {"following", "recorded"}
ASSEMBLY = DAEMON | {"ping", "clock", "records"}
EVERYTHING = ASSEMBLY | {"notify", "logs", "assembly", "rehearsal", "running", "drill", "doctor", "demo", "testing"}

SEES: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "evidence": NOUNS,
    "calibration": CALIBRATION,
    "comparison": COMPARISON,
    "reasons": {"model"},
    "judge": JUDGE,
    "attribution": JUDGE,
    "wording": {"model"},
    "stakeholders": {"model"},
    "telling": {"model", "reasons", "stakeholders", "wording"},
    "policy": POLICY,
    "aftermath": POLICY,
    "look": LOOK,
    "oneoff": ONEOFF,
    "config": CONFIG,
    **dict.fromkeys(OUTSIDE, NOUNS),
    "alerts": NOUNS | {"addresses", "clock", "signing", "switches"},
    "journal": NOUNS | {"secrets"},
    "secrets": {"errors"},
    "addresses": set(),
    "signing": set(),
    "overview": INTAKE | {"interlocks"},
    "tokens": {"errors"},
    "logs": {"secrets"},
    "clock": set(),
    "switches": NOUNS | {"secrets", "addresses", "signing", "clock"},
    "backlog": {"model", "reasons"},
    "delivery": NOUNS | {"journal", "backlog", "replies"},
    "replies": NOUNS | {"journal"},
    "sample": NOUNS | {"journal", "telling", "act", "alerts", "replies"},
    "illustrating": JOURNALLED | {"alerts", "delivery", "recorded"},
    "replying": INTAKE | {"intake", "replies"},
    "act": NOUNS | {"journal", "delivery"},
    "report": NOUNS | {"evidence", "reasons", "attribution"},
    "deployments": CONFIG | {"journal"},
    "intake": INTAKE,
    "nightly": INTAKE | {"intake", "look"},
    "observer": {"model"},
    "notify": {"model", "observer"},
    "ping": CONFIG | {"observer", "switches"},
    "noticing": INTAKE | {"intake", "look", "observer", "releases", "sources"},
    "interlocks": POLICY | {"policy", "journal"},
    "surroundings": INTAKE | {"look"},
    "afterwards": NOUNS | {"journal", "telling"},
    "following": NOUNS | {"journal", "deeds"},
    "recorded": JOURNALLED,
    "records": RECORDS,
    "deeds": NOUNS | {"journal", "report"},
    "clearance": CLEARANCE,
    "preflight": PREFLIGHT,
    "drill": DRILL,
    "daemon": DAEMON,
    "server": DAEMON,
    "assembly": ASSEMBLY,
    "rehearsal": DAEMON | {"assembly"},
    "running": DAEMON | {"assembly", "notify", "clock"},
    "doctor": DOCTOR | {"secrets"},
    "demo": EVERYTHING,
    "testing": EVERYTHING,
    "options": CONFIG,
    "cli": EVERYTHING | {"options", "secrets"},
    "__main__": {"cli"},
    "__init__": {"oneoff", "records"},
}
EVERYBODY_SEES = {"__version__"}

PURE = LOOK | {"look"}
PURE_LIBRARIES = {
    "__future__", "abc", "base64", "collections", "dataclasses", "enum", "functools", "hashlib", "itertools", "json",
    "math", "operator", "re", "statistics", "textwrap", "types", "typing", "numpy", "scipy",
}  # fmt: skip
PURE_BESIDES = {
    "reasons": {"datetime"},
    "evidence": {"datetime", "zoneinfo"},
    "stakeholders": {"datetime"},
}
"""Words for people, and the days that users live by; neither reads a clock (see CLOCKS)."""
RANDOM = {"np.random", "numpy.random"}
IMPURE_CALLS = {"print", "open", "input", "exec", "eval", "__import__"}
assert all(hasattr(builtins, name) for name in IMPURE_CALLS)

READS_THE_CLOCK = {"cli", "daemon", "server", "clock"}
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}

PUBLIC_FUNCTIONS = {"compare", "backtest"} | set(watcher.__all__)
SAYS_NOTHING = {"utils", "util", "helpers", "manager", "processor", "engine", "base", "common", "misc", "core"}


def modules() -> dict[str, Path]:
    """Return every module by its dotted name."""
    return {
        ".".join(("watcher", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def part_of(module: str) -> str:
    """Return the part a dotted name belongs to: the whole package, and what it exports, is `oneoff`.

    >>> part_of("watcher.evidence.profile"), part_of("watcher.compare"), part_of("watcher")
    ('evidence', 'oneoff', 'oneoff')
    """
    second = [*module.split("."), "", ""][1]
    return "oneoff" if second in {"", *watcher.__all__} - EVERYBODY_SEES else second


def imports(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, wherever it stands; `from a import b` is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])
            origin = package if node.level else str(node.module)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                (node.lineno, str(ast.literal_eval(name))) for name in node.args if isinstance(name, ast.Constant)
            )


def faults(source: str, module: str) -> list[str]:
    """Return what a module may not do, as `line: what`."""
    tree, part = ast.parse(source), module.split(".")[1]
    if part not in SEES:
        return [f"1: {module} has no place yet: give {part!r} one in SEES"]
    found = [*_wrong_imports(tree, module, part), *_wrong_clocks(tree, part)]
    return found + (list(_impurities(tree, part)) if part in PURE else [])


def _wrong_imports(tree: ast.AST, module: str, part: str) -> Iterator[str]:
    libraries = PURE_LIBRARIES | PURE_BESIDES.get(part, set())
    for line, name in imports(tree, module):
        if name.split(".")[0] == "watcher":
            if part_of(name) not in SEES[part] | EVERYBODY_SEES | {part}:
                yield f"{line}: {part} may not import {name}"
        elif part in PURE and name.split(".")[0] not in libraries:
            yield f"{line}: {part} is pure and may not import {name}"


def _wrong_clocks(tree: ast.AST, part: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and part not in READS_THE_CLOCK:
            clock = ".".join(ast.unparse(node).split(".")[-2:])
            if clock in CLOCKS:
                yield f"{node.lineno}: {part} may not read {clock}; take `now` as an argument"


def _impurities(tree: ast.AST, part: str) -> Iterator[str]:
    allowed = set(_seeded(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{node.lineno}: {part} is pure and may not call {node.func.id}"
        if isinstance(node, ast.Attribute) and node not in allowed and ast.unparse(node.value) in RANDOM:
            yield f"{node.lineno}: {part} is pure: take a Generator, or give the seed, instead of {ast.unparse(node)}"


def _seeded(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what may be said of numpy.random: the type of a generator, and a generator with a seed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "Generator":
            yield node
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
            yield from [node.func] if node.func.attr == "default_rng" else []


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    found = faults(modules()[module].read_text(encoding="utf-8"), module)
    assert not found, "\n".join(f"{modules()[module]}:{fault}" for fault in found)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("watcher.evidence.profile", "from watcher.judge import judge", "evidence may not import watcher.judge.judge"),
        ("watcher.evidence.profile", "from watcher import judge", "evidence may not import watcher.judge"),
        ("watcher.evidence.profile", "from ..judge import judge", "evidence may not import watcher.judge.judge"),
        ("watcher.evidence.profile", "from .. import cli", "evidence may not import watcher.cli"),
        ("watcher.judge", "import watcher.look as below", "judge may not import watcher.look"),
        ("watcher.judge", "import watcher", "judge may not import watcher"),
        ("watcher.sources.tidy", "def f():\n    from watcher.report import text", "2: sources may not import"),
        ("watcher.sources.tidy", "from watcher import compare", "sources may not import watcher.compare"),
        ("watcher.switches.flags", "if TYPE_CHECKING:\n    from watcher.act import Switch", "2: switches may not"),
        ("watcher.daemon", "import importlib\nimportlib.import_module('watcher.cli')", "2: daemon may not import"),
        ("watcher.daemon", "from watcher.demo import shop", "daemon may not import watcher.demo.shop"),
        ("watcher.demo.shop", "from watcher.cli import main", "demo may not import watcher.cli.main"),
        ("watcher.look", "import logging", "look is pure and may not import logging"),
        ("watcher.look", "from datetime import datetime", "look is pure and may not import datetime.datetime"),
        (
            "watcher.evidence.season",
            "import datetime as dt\nx = dt.datetime.now(dt.UTC)",
            "2: evidence may not read datetime.now",
        ),
        ("watcher.calibration", "from zoneinfo import ZoneInfo", "calibration is pure and may not import zoneinfo"),
        ("watcher.calibration", "import os.path", "calibration is pure and may not import os.path"),
        ("watcher.comparison", "import pandas as pd", "comparison is pure and may not import pandas"),
        ("watcher.policy", "print('kill')", "policy is pure and may not call print"),
        ("watcher.aftermath", "dice = np.random.default_rng()", "instead of np.random.default_rng"),
        ("watcher.aftermath", "noise = np.random.normal(0, 1)", "instead of np.random.normal"),
        (
            "watcher.reasons",
            "import datetime as dt\nx = dt.datetime.now(dt.UTC)",
            "2: reasons may not read datetime.now",
        ),
        ("watcher.policy", "from watcher.clock import wall_clock", "policy may not import watcher.clock.wall_clock"),
        ("watcher.act", "from watcher.clock import wall_clock", "act may not import watcher.clock.wall_clock"),
        ("watcher.switches.webhook", "import time\nx = time.time()", "2: switches may not read time.time"),
        ("watcher.journal", "import time\nx = time.time()", "2: journal may not read time.time"),
        ("watcher.journal", "import time\nx = f(clock=time.time)", "2: journal may not read time.time"),
        ("watcher.novelty", "", "novelty has no place yet"),
    ],
)
def test_the_checker_finds(module: str, source: str, fault: str) -> None:
    assert fault in "\n".join(faults(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("watcher.evidence.profile", "from watcher.evidence.track import Track\nfrom watcher.errors import ShapeError"),
        ("watcher.evidence.profile", "def f(dice: np.random.Generator) -> None: ..."),
        ("watcher.look", "dice = np.random.default_rng(SEED)"),
        ("watcher.evidence.season", "from zoneinfo import ZoneInfo"),
        ("watcher.reasons", "import datetime as dt\nx = dt.datetime.fromtimestamp(0, dt.UTC)"),
        ("watcher.report.terminal", "from watcher import __version__, reasons"),
        ("watcher.cli", "from watcher import compare\nfrom datetime import datetime\nnow = datetime.now()"),
        ("watcher.demo.shop", "from watcher.daemon import run"),
    ],
)
def test_the_checker_allows(module: str, source: str) -> None:
    assert faults(source, module) == []


def circle(sources: dict[str, str]) -> str:
    """Return the first circle of imports between modules, as a sentence; empty when there is none."""
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for module, source in sources.items():
        for _, name in imports(ast.parse(source), module):
            package = name.rpartition(".")[0]
            # Whatever watcher itself exports is loaded when it is first used.
            found = [
                each for each in (name, package, f"{package}.__init__") if each in sources.keys() - {"watcher.__init__"}
            ]
            graph[module] |= set(found[:1]) - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as problem:
        return " imports ".join(reversed(problem.args[1]))
    return ""


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle({module: path.read_text(encoding="utf-8") for module, path in modules().items()}) == ""


def test_a_circle_is_found() -> None:
    package = {"watcher.a.__init__": "from watcher.a.b import c", "watcher.a.b": "from watcher import d"}
    assert circle({**package, "watcher.d": "x = 1"}) == ""
    found = circle({**package, "watcher.d": "def f():\n    from watcher.a import c"})
    assert sorted(set(found.split(" imports "))) == ["watcher.a.__init__", "watcher.a.b", "watcher.d"]


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Importing watcher.compare would put the module where the function was."""
    assert not {module for module in modules() if module.split(".")[1] in PUBLIC_FUNCTIONS}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {module for module in modules() if SAYS_NOTHING & set(module.split("."))}

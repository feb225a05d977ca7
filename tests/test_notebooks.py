"""Every notebook runs, shows what it promises, and stays what a reader can take in."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORTED = {"watcher", "pandas", "numpy", "contextlib", "io"}
LONGEST_FUNCTION = 10

SHOWN = {
    "01-compare-a-release": {
        "compare": ["REGRESSED", "<svg ", "checkout", "search"],
        "verdict": ["regressed\n", "errors/requests on checkout: "],
        "file": ["True"],
        "frame": ["regressed", "healthy"],
        "effect": ["image/png"],
        "arms": ["image/png"],
        "forest": ["image/png"],
        "early": ["not decided yet", "more events", "inconclusive"],
        "silent": ["no_data ('absent_treatment',)", "has sent nothing"],
        "before": ["load_time: ", "more than the margin allows", "image/png"],
        "before-warnings": ["the noise model alone decides"],
        "latency": ["REGRESSED", "typical latency is ", "p95 is ", "10 % slower"],
        "shift": ["image/png"],
    },
    "02-tune-rules-on-past-releases": {
        "backtest": ["Found 10 of 10 bad releases", "false alarms on 0 of 20 fine ones", "watcher"],
        "interval": ["1.0 0.0", "0.168"],
        "frame": ["1.7      4.0  30.0  37.0  48.0", "4.0      3.0   2.0   4.0   4.0"],
        "outcomes": ["1.0           13             1          0", "1.7            0             0          4"],
        "delay": ["image/png"],
        "alpha": ["image/png"],
        "alternatives": ["0.0001      7             0", "0.2000     10             2"],
        "strict": ["Found 7 of 10 bad releases", "false alarms on 0 of 20 fine ones"],
        "missed": ["v1022 | 1.7 | inconclusive", "v1023 | 1.7", "v1024 | 1.7"],
        "margin": ["0.2    healthy         1    0    0    0    0", "1.0    healthy        14    6    1    0    0"],
        "trade-table": ["margin 100%      3.0           0.0     0.17          4.0"],
        "placebo": ["False alarms on 0 of 30 placebo releases"],
    },
    "03-how-the-statistics-decide": {
        "naive": ["at the end: 5.0%", "every minute: 22.0%"],
        "anytime": ["False alarms on 1 of 100 fine releases", "healthy      99"],
        "power": ["Found 20 of 20 bad releases"],
        "effect": ["image/png"],
        "burst": ["mean 4.04, variance 20.3; without bursts 3.9"],
        "burst-textbook": ["at the end: 24.0%", "every minute: 74.0%"],
        "dispersion": ["min  1.000   3.838"],
        "bursty": ["False alarms on 0 of 100 fine releases", "healthy         81"],
        "t-test": ["the hour before: 97%", "the day before: 72%"],
        "placebos": ["proven within the margin", "placebos, the largest ", "4.5% of the placebos reached that"],
        "real": ["regressed load_time: ", "image/png"],
        "backtest": ["False alarms on 0 of 24 placebo releases"],
    },
    "04-investigate-an-incident": {
        "whole": ["Comparison healthy", "15.6 % higher"],
        "features": ["Comparison regressed: errors/requests on checkout: 1.4 times", "decided after 2.1 h", "<svg "],
        "browsers": ["checkout  healthy  inconclusive  regressed", "search    healthy  inconclusive    healthy"],
        "effects": ["checkout    0.94     1.11    2.25"],
        "forest": ["image/png"],
        "effect": ["image/png"],
        "reason": ["safari, checkout: 2.3 times", "3.2 times since 11:20 UTC", "105 min", "no later block"],
        "trace": ["needed: 6.8", "11:45:00+00:00      1.50   0.99   6.94"],
        "arms": ["image/png"],
        "quiet": ["search  firefox  inconclusive", "checkout   chrome       healthy"],
        "latency": ["p50 1.06 times", "p95 is 1.90 times", "image/png"],
        "journal": ["quick-pay", "regressed  recovered"],
        "comparison": ["<strong", "REGRESSED", "<svg "],
        "incident-effect": ["image/png"],
        "looks": ["10:30:00+00:00      10     regressed   watching", "regressed     killed", "regressed  recovered"],
        "look": ["REGRESSED", "Requests that failed", "log e of harm"],
    },
}
"""What the cells show, because the text around them says so: by notebook and cell."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: NotebookNode) -> str:
    """Return all that a cell shows, as text; of an image, its kind."""
    said = []
    for output in cell.outputs:
        if output.output_type == "stream":
            said.append(output.text)
        for kind, data in output.get("data", {}).items():
            said.append(kind if kind.startswith("image/") else data)
    return "\n".join(said)


def run(notebook: NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute a notebook in place, in a folder of its own, as this checkout and this Python would."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, startup_timeout=300, kernel_name="python3", resources=resources).execute()


def test_there_are_notebooks_and_what_each_shows_is_checked() -> None:
    assert NOTEBOOKS
    assert {path.stem for path in NOTEBOOKS} == SHOWN.keys()


@each_notebook
def test_a_notebook_runs_without_a_warning_and_shows_what_its_text_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = read(path)
    run(notebook, tmp_path, monkeypatch)
    cells = {cell.id: cell for cell in code(notebook)}
    for name, cell in cells.items():
        warned = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not warned, f"{name}: {warned}"
    for name, expected in SHOWN[path.stem].items():
        said = shown(cells[name])
        missing = [text for text in expected if text not in said]
        assert not missing, f"{name} does not show {missing}: {said[:2000]}"


@each_notebook
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    kept = [cell.id for cell in code(read(path)) if cell.outputs or cell.execution_count is not None]
    assert not kept, f"{path.name}: clear the outputs of {kept}"


@each_notebook
def test_a_notebook_names_a_kernel_everybody_has(path: Path) -> None:
    assert read(path).metadata.kernelspec.name == "python3"


@each_notebook
def test_a_notebook_imports_only_what_its_reader_has(path: Path) -> None:
    trees = [ast.parse(cell.source) for cell in code(read(path))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= IMPORTED


@each_notebook
def test_a_notebook_defines_no_long_function(path: Path) -> None:
    for cell in code(read(path)):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{path.name}: {node.name} belongs into watcher"

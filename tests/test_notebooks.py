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
IMPORTED = {"watcher", "pandas", "numpy"}
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
    }
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
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()


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

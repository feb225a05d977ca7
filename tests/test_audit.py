"""The audit of what is installed: what fails, what passes, and what it says where nobody can be asked."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "numpy", "version": "2.0", "vulns": []}
AWAY = {"name": "click", "skip_reason": "Dependency not found on PyPI and could not be audited: click (8.1)"}
BAD = {"name": "jinja2", "version": "3.1.3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.6"], "aliases": []}]}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE], 0, "1 packages audited, none with a known vulnerability"),
        ([FINE, AWAY], 0, "1 packages audited, none with a known vulnerability, 1 could not be"),
        ([AWAY], 0, "knows none of 1 packages from here; nothing was audited"),
        ([FINE, AWAY, BAD], 1, "jinja2 3.1.3: PYSEC-1, mended in 3.1.6"),
        ([{**BAD, "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}], 1, "PYSEC-2, mended in no version yet"),
    ],
)
def test_a_known_vulnerability_fails_and_nothing_else_does(
    audit: ModuleType, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    found, text = audit.report(json.dumps({"dependencies": packages, "fixes": []}))
    assert found == code
    assert said in text


@pytest.mark.parametrize("said", ["", "<html>", "[]", "{}", '{"dependencies": 1'])
def test_a_service_that_cannot_be_asked_is_said_and_passes(audit: ModuleType, said: str) -> None:
    assert audit.report(said) == (0, "audit: the advisory service cannot be asked from here; nothing was audited")


def test_a_service_that_hangs_holds_nobody_up(
    audit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "pip-audit"
    hangs.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(audit, "PATIENCE", 0.5)
    assert audit.answer(str(hangs), "nowhere") == ""
    assert audit.answer(str(tmp_path / "not-installed"), "nowhere") == ""

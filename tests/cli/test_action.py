"""action.yml, run as GitHub runs it: its own script, in bash, with nothing but its variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
ACTION: dict[str, Any] = YAML(typ="safe").load((ROOT / "action.yml").read_text())
INSTALL, JUDGE = ACTION["runs"]["steps"]


def judged(folder: Path, arguments: str, fail_on: str = "inconclusive") -> tuple[int, str, str]:
    """Return the exit code of the step, what it printed, and what it gave the job."""
    installed = folder / "watcher" / "bin"
    installed.mkdir(parents=True, exist_ok=True)
    script = installed / "watcher"
    if not script.exists():
        script.symlink_to(shutil.which("watcher", path=f"{Path(sys.executable).parent}") or "watcher")
    (folder / "step.sh").write_text(JUDGE["run"])
    given = {"ARGUMENTS": arguments, "FAIL_ON": fail_on, "RUNNER_TEMP": str(folder), "PATH": os.environ["PATH"]}
    told = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    # As GitHub runs `shell: bash`.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(folder / "step.sh")]
    ended = subprocess.run(
        command, env=given | told, cwd=Path.cwd(), capture_output=True, text=True, timeout=240, check=False
    )
    output = folder / "output"
    return ended.returncode, ended.stdout + ended.stderr, output.read_text() if output.exists() else ""


def test_it_fails_the_job_of_a_release_that_regressed_and_says_so_there(files: Path, tmp_path: Path) -> None:
    code, said, output = judged(tmp_path, "\n  shop.csv\n--ratio\nerrors/requests\n\n")
    assert (code, output) == (1, "outcome=regressed\n")
    assert said.startswith("::error title=REGRESSED%3A ")
    assert (tmp_path / "summary.md").read_text().startswith("**REGRESSED**")
    assert judged(tmp_path, "shop.csv\n--ratio\nerrors/requests", fail_on="never")[0] == 0


def test_no_argument_is_read_by_a_shell(files: Path, tmp_path: Path) -> None:
    code, said, output = judged(tmp_path, "--ratio\na/b\n$(touch here); touch there; `touch where`")
    assert (code, output) == (2, "")
    assert "$(touch here); touch there; `touch where`" in said
    assert not [name for name in ("here", "there", "where") if Path(name).exists() or (tmp_path / name).exists()]


def test_what_the_steps_read_is_what_the_action_gives_them() -> None:
    given = {"inputs.arguments": "ARGUMENTS", "inputs.fail-on": "FAIL_ON", "inputs.python": "PYTHON"}
    assert {f"inputs.{name}" for name in ACTION["inputs"]} == set(given)
    for step in (INSTALL, JUDGE):
        # An expression within a script would be a shell's to read.
        assert "${{" not in step["run"]
        for name, value in step["env"].items():
            assert given[value.removeprefix("${{ ").removesuffix(" }}")] == name
            assert f'"${name}"' in step["run"]
    assert ACTION["outputs"]["outcome"]["value"] == f"${{{{ steps.{JUDGE['id']}.outputs.outcome }}}}"

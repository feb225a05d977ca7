#!/usr/bin/env bash
# Changes watcher/policy.py in every way that a slip of the hand might, one at a time, in a copy, and runs its tests on
# each: whatever no test notices is printed. Takes a quarter of an hour. Equivalent by construction, and left out: "|"
# in annotations, which nothing evaluates, and "==" for "is" between members of an enumeration. The fourteen that are left
# are no different either: "<=", ">=", "<" or ">" between the names of outcomes, modes, phases and kinds, where the
# alphabet has no other name on that side ("regressed" is the last outcome, "healthy" the first, "armed" the first mode).
set -euo pipefail
cd "$(dirname "$0")/.."

python=$PWD/.venv/bin/python
[[ -x .mutants/bin/cosmic-ray ]] || { "$python" -m venv .mutants && .mutants/bin/pip --quiet install 'cosmic-ray==8.*'; }
tools=$PWD/.mutants/bin
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r watcher tests rules pyproject.toml "$copy"
cd "$copy"
cat >mutants.toml <<TOML
[cosmic-ray]
module-path = "watcher/policy.py"
timeout = 60.0
excluded-modules = []
test-command = "$python -m pytest -x -q -p no:cacheprovider tests/test_policy.py"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = [
    "core/ReplaceBinaryOperator_BitOr_.*",
    "core/ReplaceComparisonOperator_Is_Eq",
    "core/ReplaceComparisonOperator_IsNot_NotEq",
]
TOML
export PYTHONPATH=$copy
"$tools/cosmic-ray" init mutants.toml mutants.sqlite
"$tools/cr-filter-operators" mutants.sqlite mutants.toml
"$tools/cosmic-ray" exec mutants.toml mutants.sqlite
"$tools/cr-report" --show-diff --surviving-only mutants.sqlite
"$tools/cr-report" mutants.sqlite | tail -3

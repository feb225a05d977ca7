#!/usr/bin/env bash
# Runs the tests that need no servers on the oldest versions that pyproject.toml allows of what watcher depends on.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-python3}
[[ -x .lowest/bin/uv ]] || { "$python" -m venv .lowest && .lowest/bin/python -m pip --quiet install uv; }
export VIRTUAL_ENV=$PWD/.lowest
uv=.lowest/bin/uv
"$uv" pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml --output-file .lowest/oldest.txt
# Of the tools for tests only those that tests import; the others, with newer needs, are of no concern here.
"$uv" pip install --quiet --constraint .lowest/oldest.txt --requirement .lowest/oldest.txt \
    pytest pytest-xdist hypothesis 'httpx<0.28' httpx2 jsonschema jsonpatch standardwebhooks pyyaml nbformat nbclient
PYTHONPATH=. .lowest/bin/python -m pytest -n 2 -p no:cacheprovider -m 'not servers' \
    tests/cli tests/alerts tests/report tests/sources tests/oneoff tests/journal tests/preflight \
    tests/test_{act,attribution,calibration,config,daemon,deeds,delivery,doors,faults,intake,journal,judge,logs,look}.py \
    tests/test_{metrics,policy,redirects,server,telling,tokens}.py

#!/usr/bin/env bash
# Build the wheel, install it away from this checkout, and use it from another folder: what people get is not what
# lies here, so a file that the wheel forgot would pass every other test.
#
# Usage: scripts/wheel_check.sh [PYTHON]    a Python that has watcher's dependencies (.venv/bin/python)
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath --no-symlinks "${1:-$checkout/.venv/bin/python}")
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
pip=("$python" -m pip --quiet --no-input --disable-pip-version-check)

# Built from what the Containerfile copies: the image is made of that and nothing else.
read -ra copied <<<"$(sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' "$checkout/Containerfile" | tr '\n' ' ')"
mkdir "$away/source"
(cd "$checkout" && cp -r "${copied[@]}" "$away/source")

"${pip[@]}" wheel "$away/source" --no-deps --wheel-dir "$away/wheel"
"${pip[@]}" install "$away"/wheel/*.whl --no-deps --target "$away/installed"

# The dependencies are those of the environment, watcher itself is not.
cd "$away"
export PYTHONPATH="$away/installed"
found=$("$python" -c 'import watcher; print(watcher.__file__)')
if [[ $found != "$away"/* ]]; then
    echo "the wheel was not the watcher that was imported: $found" >&2
    exit 1
fi
for file in py.typed rules/checkout.yaml; do
    if [[ ! -f installed/watcher/$file ]]; then
        echo "the wheel lacks watcher/$file" >&2
        exit 1
    fi
done
if [[ -e installed/tests || -e installed/scripts ]]; then
    echo "the wheel installs tests or scripts beside watcher" >&2
    exit 1
fi
version=$("$python" -c 'from importlib.metadata import version; print(version("release-watcher"))')
said=$(installed/bin/watcher --version)
if [[ $said != *"$version"* ]]; then
    echo "the wheel is version $version, and watcher --version says: $said" >&2
    exit 1
fi
installed/bin/watcher rules check checkout >/dev/null
echo "The wheel works away from the checkout: $said"

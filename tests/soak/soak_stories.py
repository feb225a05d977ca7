"""Hundreds of stories of a daemon that nothing outside can be trusted in, each run with others than the last.

PYTHONPATH=. python tests/soak/soak_stories.py [STORIES]
"""

from __future__ import annotations

import os
import sys

import pytest


def main() -> None:
    os.environ["WATCHER_STORIES"] = sys.argv[1] if len(sys.argv) > 1 else "400"
    sys.exit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "tests/trust/test_stateful.py"]))


if __name__ == "__main__":
    main()

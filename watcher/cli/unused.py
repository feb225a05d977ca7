"""Options that would change nothing beside the others, which are refused: whoever gave one believes that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

IN_PACK = {"worse", "margin", "regress_margin", "matures", "objective"}
ON_FILE = {*IN_PACK, "ratio", "rate", "latency", "gauge", "unit_of_time", "by", "drop_bad_rows"}
IN_INSTALLATION = {
    "rules", "ratio", "rate", "latency", "gauge", "alpha", "block", "warm_up", "select", "baseline", "treatment",
    "history", "prometheus", "bearer_file", "ca_file", "replica_label", "by", "timezone", "exclude",
}  # fmt: skip
"""What watcher.yaml says already."""
ON_SERVER = {"baseline", "treatment", "select", "since", "history", "bearer_file", "ca_file", "replica_label"}


def refuse_unused(context: click.Context) -> None:
    """Refuse options that would change nothing, among those that were written on the command line."""
    written = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for names, why in _unused(context.params):
        for name in sorted(written & names):
            raise click.UsageError(f"--{name.replace('_', '-')} {why}")


def _unused(params: dict[str, Any]) -> Iterator[tuple[set[str], str]]:
    """Yield options that mean nothing beside the others, and why."""
    if params.get("config") is not None:
        yield IN_INSTALLATION | ON_FILE, "is said by watcher.yaml, or does not go with it"
    elif "config" in params:
        yield {"service", "strategy"}, "goes with --config"
    if params.get("prometheus") is not None:
        yield ON_FILE, "goes with a FILE; on a Prometheus the rule pack says what is compared"
    elif params.get("config") is None or params["file"] is not None:
        yield ON_SERVER | {"releases", "version_label"}, "goes with --prometheus"
    if params["rules"] is not None:
        yield IN_PACK, "is a matter of each rule: set it in the rule pack"
        return
    if params["rate"] is None:
        yield {"matures"}, "goes with --rate"
    if params["latency"] is None:
        yield {"objective", "unit_of_time"}, "goes with --latency"

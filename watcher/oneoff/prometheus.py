"""`watcher compare --prometheus`: the same look on raw counters of a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from watcher.config import load_rules, parse_duration, parse_moment, rule_pack_path
from watcher.errors import ConfigError
from watcher.look import prepare, read_history
from watcher.model import Labels, Observations, Release, Stage, Strategy, Watch, labels, parse_matchers
from watcher.oneoff.asked import asked_alpha, asked_usual
from watcher.oneoff.found import Comparison, compare_source
from watcher.oneoff.prepared import HORIZON
from watcher.oneoff.spread import Progress
from watcher.secrets import secret
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

SETTLE = 45.0


def compare(
    *,
    prometheus: str,
    rules: str | None,
    now: float,
    baseline: str | None = None,
    treatment: str | None = None,
    select: str | None = None,
    since: str | None = None,
    at: str | None = None,
    history: str | None = None,
    alpha: float | None = None,
    warm_up: str | None = None,
    block: str | None = None,
    timezone: str | None = None,
    exclude: Sequence[str] = (),
    bearer_file: str | None = None,
    ca_file: str | None = None,
    replica_label: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two arms of the last `since`, or everybody before and after `at`.

    Args:
        now: epoch seconds; blocks that have closed and settled by then count.
        baseline, treatment, select: label equalities, as inside a selector's braces.
        since, history, warm_up, block: durations such as "2h".
        progress: called with how many rules' history is read, and of how many.

    Raises:
        ConfigError: an option is missing or wrong.
        SourceError: the server cannot be read.
    """
    began = time.monotonic()
    if rules is None:
        raise ConfigError("say what to compare: --rules with a rule pack (shipped: http-prometheus, checkout ...)")
    if (baseline is None) != (treatment is None):
        raise ConfigError("give both --baseline and --treatment, or neither (before/after)")
    if at is None and (since is None or baseline is None):
        raise ConfigError("give --at, the time of exposure, or --since with --baseline and --treatment")
    length = parse_duration(block) if block else 60.0
    exposed = parse_moment(at) if at is not None else now - SETTLE - parse_duration(since or "2h")
    exposed = float(np.ceil(exposed / length) * length) if at is None else exposed
    past, usual = history or ("24h" if baseline is not None else "28d"), asked_usual(timezone, exclude)
    watch = Watch(
        release=Release("", "", treatment or "everybody, before and after", "", Strategy.FLAG, (Stage(exposed),)),
        rules=load_rules(rule_pack_path(rules, Path.cwd())),
        select=equalities(select, "--select") or (),
        baseline=equalities(baseline, "--baseline"),
        treatment=equalities(treatment, "--treatment"),
        block=length,
        settle=SETTLE,
        # Over the last hours nobody was just exposed: there is nothing to warm up.
        warm_up=parse_duration(warm_up) if warm_up else (300.0 if at is not None else 0.0),
        horizon=max(86_400.0 if baseline is not None else HORIZON, now - exposed),
        history=parse_duration(past),
        alpha=asked_alpha(alpha),
        zone=usual.zone,
        excluded=usual.excluded,
    )
    client = PrometheusHTTP(prometheus, bearer=secret(Path(bearer_file)) if bearer_file else None, ca_bundle=ca_file)
    source = PrometheusSource(client, replica_label)
    before: dict[str, Observations] = {}
    for rule in watch.rules:
        before |= read_history(replace(watch, rules=(rule,)), source)
        if progress is not None:
            progress(len(before), len(watch.rules))
    return compare_source(watch, source, now, before, prepare(watch, before), began=began, said=at is not None)


def equalities(text: str | None, option: str) -> Labels | None:
    """Return label equalities written as inside a selector's braces."""
    if text is None:
        return None
    try:
        found = parse_matchers(text)
    except ValueError as error:
        raise ConfigError(str(error), key=option) from error
    if any(matcher.op != "=" for matcher in found):
        raise ConfigError('an arm is label equality, such as version="1.2"', key=option)
    return labels({matcher.label: matcher.value for matcher in found})

"""`watcher plan`: where the history is read from that a plan rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from watcher.config import load_rules, parse_duration, parse_moment, parse_share, rule_pack_path
from watcher.errors import ConfigError, DataError
from watcher.look import read_history
from watcher.model import Release, Rule, Stage, Strategy, Watch
from watcher.oneoff.asked import asked_alpha, labels_named
from watcher.oneoff.forecast import forecast
from watcher.oneoff.prepared import ARMS, present, with_objective
from watcher.oneoff.prometheus import SETTLE, equalities
from watcher.report.plan import Plan
from watcher.secrets import secret
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP
from watcher.sources.tidy import TidyTable, read_table


def plan_table(
    file: str,
    *,
    rules: str,
    share: str = "50%",
    watch_for: str = "24h",
    alpha: float | None = None,
    at: str | None = None,
    block: str | None = None,
    by: Sequence[str] | None = None,
    unit_of_time: str = "s",
    drop_bad_rows: bool = False,
) -> Plan:
    """Plan from a tidy table: its rows before `at` (all of them) are history; rates are the baseline arm's, if any.

    Raises:
        ConfigError: the rules or an option are wrong.
        DataError: the table is wrong.
    """
    pack = load_rules(rule_pack_path(rules, Path.cwd()))
    frame = read_table(file, text=labels_named(pack, by))
    pack, left_out = present(pack, frame)
    length = None if block is None else parse_duration(block)

    def read(wanted: Sequence[Rule]) -> TidyTable:
        return TidyTable.of(
            frame, wanted, by=by, block=length, name=file, drop_bad_rows=drop_bad_rows, unit_of_time=unit_of_time
        )

    table = read(pack)
    exposed = table.end if at is None else parse_moment(at)
    if exposed <= table.start:
        raise DataError(f"no row before {at}: there is no history to plan from", file=file, column="timestamp")
    watch = _watch(pack, exposed, share, watch_for, alpha)
    watch = replace(watch, block=table.block, settle=0.0, history=exposed - table.start)
    watch = replace(watch, rules=tuple(with_objective(rule, table, watch, table.end) for rule in pack))
    if table.has_arms:
        watch = replace(watch, baseline=ARMS[0], treatment=ARMS[1])
    table = read(watch.rules)
    return forecast(watch, read_history(watch, table), (*left_out, *table.notes), "file")


def plan_prometheus(
    prometheus: str,
    *,
    rules: str,
    now: float,
    share: str = "50%",
    watch_for: str = "24h",
    alpha: float | None = None,
    at: str | None = None,
    block: str | None = None,
    history: str | None = None,
    baseline: str | None = None,
    treatment: str | None = None,
    select: str | None = None,
    bearer_file: str | None = None,
    ca_file: str | None = None,
    replica_label: str | None = None,
) -> Plan:
    """Plan from the last hours of a Prometheus, or those before `at`.

    Args:
        prometheus: URL.
        now: epoch seconds.
        history: how much is read; 24 hours, or a week where everybody would be on the release.
        baseline, treatment: label equalities, where there are arms: rates are the baseline's, traffic is both's.
        select: label equalities, added to every selector.

    Raises:
        ConfigError: an option is missing or wrong.
        SourceError: the server cannot be read.
    """
    if (baseline is None) != (treatment is None):
        raise ConfigError("give both --baseline and --treatment, or neither (all traffic)")
    exposed = now - SETTLE if at is None else parse_moment(at)
    watch = _watch(load_rules(rule_pack_path(rules, Path.cwd())), exposed, share, watch_for, alpha)
    watch = replace(
        watch,
        select=equalities(select, "--select") or (),
        baseline=equalities(baseline, "--baseline"),
        treatment=equalities(treatment, "--treatment"),
        block=parse_duration(block or 60.0),
        settle=SETTLE,
        history=parse_duration(history or ("28d" if parse_share(share) == 1 else "24h")),
    )
    client = PrometheusHTTP(prometheus, bearer=secret(Path(bearer_file)) if bearer_file else None, ca_bundle=ca_file)
    return forecast(watch, read_history(watch, PrometheusSource(client, replica_label)))


def _watch(rules: tuple[Rule, ...], at: float, share: str, watch_for: str, alpha: float | None) -> Watch:
    """Return the watch that would begin at `at`."""
    if not parse_share(share) > 0:
        raise ConfigError("nothing can be seen of a release that nobody gets; give a share above 0%", key="--share")
    return Watch(
        release=Release("", "", "plan", "", Strategy.FLAG, (Stage(at, parse_share(share)),)),
        rules=rules,
        horizon=parse_duration(watch_for),
        alpha=asked_alpha(alpha),
    )

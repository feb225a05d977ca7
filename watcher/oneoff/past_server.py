"""`watcher backtest --prometheus`: the shipped pipeline over past releases on a server, look by look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from watcher.config import (
    Installation,
    ReleaseEntry,
    Service,
    load_rules,
    parse_duration,
    parse_moment,
    plan,
    rule_pack_path,
)
from watcher.errors import ConfigError
from watcher.model import Labels, Release, Stage, Strategy, Watch
from watcher.oneoff.asked import asked_alpha, asked_usual
from watcher.oneoff.backtested import Backtest
from watcher.oneoff.exposures import (
    PastExposure,
    filled,
    has_placeholder,
    read_releases,
    requests_of,
    versions_found,
)
from watcher.oneoff.kept import Kept
from watcher.oneoff.past import judged
from watcher.oneoff.prometheus import SETTLE, equalities
from watcher.oneoff.server_cases import Planner, ServerCases, in_time, placebos
from watcher.oneoff.spread import Progress, cores
from watcher.secrets import secret
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

UNTOLD = (
    "nobody says when anything was released (--releases, --version-label): if something was, its harm counts as a "
    "false alarm"
)
WITHOUT_ARMS = "placebo releases are held against the past of the whole service: this says nothing of the arms"


@dataclass(frozen=True)
class Looking:
    """How past releases are looked for and looked at. Times are epoch seconds, durations seconds.

    `releases` is a file that lists them, `version_label` the label whose new values are releases; `known` are those
    somebody remembers. Without any of them, times at which nothing was released are judged.
    """

    now: float
    since: float
    every: float = 60.0
    horizon: float = 7200.0
    releases: str | None = None
    version_label: str | None = None
    known: tuple[PastExposure, ...] = ()

    @classmethod
    def of(
        cls,
        now: float,
        since: str | None = None,
        looks_every: float | str = "60s",
        horizon: float | str = "2h",
        releases: str | None = None,
        version_label: str | None = None,
    ) -> Looking:
        """Read durations; 30 days are looked through unless something else is said.

        Raises:
            ValueError: a duration cannot be read, or is none.
        """
        every, length = parse_duration(looks_every), parse_duration(horizon)
        if not every > 0 or not length > 0:
            raise ValueError("looks take place more than 0 s apart, and for longer than that")
        return cls(now, now - parse_duration(since or "30d"), every, length, releases, version_label)


@dataclass(frozen=True)
class Template:
    """Every release is watched as this one, but for its own time and its own values in the arms."""

    like: Watch

    def watch(self, exposure: PastExposure) -> Watch:
        """See Planner."""
        release = Release(
            "", "", exposure.release, exposure.version, Strategy.FLAG, (Stage(exposure.exposed_at),), exposure.previous
        )
        return replace(
            self.like,
            release=release,
            baseline=filled(self.like.baseline, exposure, "--baseline"),
            treatment=filled(self.like.treatment, exposure, "--treatment"),
        )


@dataclass(frozen=True)
class Planned:
    """Every release is watched as the daemon of an installation would watch it with its present rules."""

    installation: Installation
    service: Service
    entry: ReleaseEntry

    def watch(self, exposure: PastExposure) -> Watch:
        """See Planner."""
        if exposure.watch is not None:
            alpha, rules = self.installation.alpha, self.service.rules
            return replace(exposure.watch, rules=rules, alpha=alpha, block=self.installation.block, accepted=())
        features = self.entry.features
        release = Release(
            service=self.service.name,
            environment=self.service.environment,
            feature=exposure.feature or (features[0] if features else self.service.name),
            version=exposure.version or exposure.release,
            strategy=self.entry.strategy,
            stages=(Stage(exposure.exposed_at),),
            previous=exposure.previous or None,
        )
        return plan(self.installation, self.service, self.entry, release)


def backtest_prometheus(
    *,
    prometheus: str,
    rules: str | None,
    now: float,
    since: str | None = None,
    releases: str | None = None,
    version_label: str | None = None,
    at: str | None = None,
    baseline: str | None = None,
    treatment: str | None = None,
    select: str | None = None,
    history: str | None = None,
    alpha: float | None = None,
    warm_up: str | None = None,
    block: str | None = None,
    timezone: str | None = None,
    exclude: Sequence[str] = (),
    looks_every: float | str = "60s",
    horizon: float | str = "2h",
    bearer_file: str | None = None,
    ca_file: str | None = None,
    replica_label: str | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    report: str | Path | None = None,
) -> Backtest:
    """Run a rule pack over past releases on a Prometheus, look by look.

    Args:
        prometheus: URL.
        rules: the pack.
        now: epoch seconds; what lies after it is not read.
        since: how far back releases are looked for, or placebos put ("30d").
        releases: a CSV file with exposed_at, release and optional label, group, previous, version and feature.
        version_label: the label whose new values are releases; a new one is held against the busiest of the old.
        at: when users were exposed to the one release there is.
        baseline, treatment: label equalities, in which {version}, {previous}, {feature} or {release} may stand for a
            whole value; neither is before/after.
        history, warm_up, block, looks_every, horizon: durations; select: label equalities.
        processes: as for tables; all that is read is read once, before the work is spread.

    Raises:
        ConfigError: an option is missing or wrong.
        DataError: the list of releases is wrong, or not one release can be judged.
        SourceError: the server cannot be read.
    """
    if rules is None:
        raise ConfigError("say what to compare: --rules with a rule pack (shipped: http-prometheus, checkout ...)")
    if (baseline is None) != (treatment is None):
        raise ConfigError("give both --baseline and --treatment, or neither (before/after)")
    if sum(each is not None for each in (releases, version_label, at)) > 1:
        raise ConfigError("give one of --releases, --version-label and --at")
    looking = Looking.of(now, since, looks_every, horizon, releases, version_label)
    if at is not None:
        looking = replace(looking, known=(PastExposure(at, parse_moment(at)),))
    usual = asked_usual(timezone, exclude)
    like = Watch(
        release=Release("", "", "", "", Strategy.FLAG, (Stage(now),)),
        rules=load_rules(rule_pack_path(rules, Path.cwd())),
        select=equalities(select, "--select") or (),
        baseline=equalities(baseline, "--baseline"),
        treatment=equalities(treatment, "--treatment"),
        block=parse_duration(block) if block else 60.0,
        settle=SETTLE,
        warm_up=parse_duration(warm_up) if warm_up else 300.0,
        horizon=looking.horizon,
        history=parse_duration(history or ("24h" if baseline is not None else "28d")),
        alpha=asked_alpha(alpha),
        zone=usual.zone,
        excluded=usual.excluded,
    )
    bearer = secret(Path(bearer_file)) if bearer_file else None
    kept = Kept(partial(opened, prometheus, bearer, ca_file, replica_label))
    cases = found_cases(kept, looking, Template(like), like, lambda: Template(without_arms(like)), kept.source.url)
    return _judged(cases, processes, progress, report)


def backtest_service(
    installation: Installation,
    service: Service,
    entry: ReleaseEntry,
    looking: Looking,
    connect: Callable[[], PrometheusSource],
    processes: int | None = None,
    progress: Progress | None = None,
    report: str | Path | None = None,
) -> Backtest:
    """Run the rules of an installation's service over its past releases, as its daemon would have watched them.

    Args:
        installation: metrics, block and alpha.
        service: rules.
        entry: how releases that no journal knows are watched.
        looking: where releases are known from.
        connect: opens the server.
        processes, progress, report: as for `backtest_prometheus`.

    Raises:
        DataError, SourceError: as there.
    """
    kept = Kept(connect)
    planned = Planned(installation, service, entry)
    alone = replace(entry, baseline=None, treatment=None, split=None, focus=(), kill=None)
    like = Planned(installation, service, alone).watch(PastExposure("", looking.now))
    cases = found_cases(
        kept, looking, planned, like, lambda: Planned(installation, service, alone), installation.metrics.prometheus
    )
    if cases.are_placebos and entry.treatment is not None:
        cases = replace(cases, warnings=(*cases.warnings, WITHOUT_ARMS))
    return _judged(cases, processes, progress, report)


def _judged(
    cases: ServerCases, processes: int | None, progress: Progress | None, report: str | Path | None
) -> Backtest:
    if min(processes or cores(), len(cases.tasks)) > 1:
        cases.read_ahead()
    return judged(cases, processes, progress, report)


def found_cases(
    kept: Kept[PrometheusSource],
    looking: Looking,
    planner: Planner,
    like: Watch,
    alone: Callable[[], Planner],
    name: str,
) -> ServerCases:
    """Return the past releases there are, or placebos.

    Args:
        kept: the server.
        looking: where releases are known from.
        planner: how each is watched.
        like: rules, select, block and settle of all of them.
        alone: how placebos are watched: against the past.
        name: of the server, for people.
    """
    closed = looking.now - like.settle
    exposures: Sequence[PastExposure] = looking.known
    if looking.releases is not None:
        exposures = read_releases(looking.releases)
    elif not exposures and looking.version_label is not None:
        counter, label = requests_of(like.rules, like.select), looking.version_label
        exposures = versions_found(kept.source, counter, label, looking.since, closed, like.block, "")
    cases = ServerCases(in_time(exposures), planner, kept, looking.now, looking.every, looking.horizon, name)
    if exposures:
        return cases
    told = () if looking.version_label is not None else (UNTOLD,)
    since = float(np.ceil(looking.since / like.block) * like.block)
    moments = placebos(since, closed, like.block, looking.horizon)
    return replace(cases, tasks=moments, planner=alone(), are_placebos=True, warnings=told)


def without_arms(like: Watch) -> Watch:
    """Return how placebos are watched.

    Raises:
        ConfigError: fixed arms, of which nobody says since when they differ.
    """
    arms: Labels = (*(like.baseline or ()), *(like.treatment or ()))
    if any(not has_placeholder(value) for _, value in arms):
        raise ConfigError("no release is known: of fixed arms say when users were exposed (--releases, or --at)")
    history = max(like.history, 7 * 86_400.0) if arms else like.history
    return replace(like, baseline=None, treatment=None, history=history)


def opened(url: str, bearer: str | None, ca_file: str | None, replica_label: str | None) -> PrometheusSource:
    """Open a server."""
    return PrometheusSource(PrometheusHTTP(url, bearer=bearer, ca_bundle=ca_file), replica_label)

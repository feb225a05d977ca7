"""`watcher doctor`: an installation, part by part, as it is now, and how to mend what is not as it should be.

It changes nothing, and tells nobody. What can only be known of one release is in `watcher preflight`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import make_url

from watcher import drill, interlocks
from watcher.act import Alerter
from watcher.clock import skewed
from watcher.config import Installation, Service
from watcher.errors import JournalError, Refused, SourceError, SwitchError, WatcherError
from watcher.journal import Journal
from watcher.model import Mode, Request
from watcher.preflight.people import reached
from watcher.report.preflight import Line, Preflight, Status
from watcher.sources.prometheus import PrometheusSource
from watcher.switches.http import ask

SCHEMA: Final = "watcher/doctor/1"

SECRETS, METRICS, JOURNAL, DAEMON, SWITCHES = "Secrets", "Metrics are read", "Journal", "Daemon", "Kill switches"
"""What is examined, besides watcher.yaml and whether people are told."""

LATELY: Final = 600.0
"""Seconds in which a rule must have measured something."""


@dataclass(frozen=True)
class Examination(Preflight):
    """What a doctor found of an installation; `release` is the path of its watcher.yaml."""

    def to_json(self) -> dict[str, Any]:
        """Return it as `watcher doctor --format json` prints it."""
        found = super().to_json()
        return {
            "schema": SCHEMA,
            "installation": found.pop("release"),
            **{k: v for k, v in found.items() if k != "schema"},
        }


def examine(
    installation: Installation, source: PrometheusSource, alerters: Mapping[str, Alerter], now: float
) -> Examination:
    """Look at every part of an installation.

    Args:
        installation: as watcher.yaml has it now.
        source: where its metrics are.
        alerters: everybody who is told, by name.
        now: epoch seconds.
    """

    def lines() -> Iterator[Line]:
        yield from _configuration(installation)
        yield from _secrets(installation)
        yield from _metrics(installation, source, now)
        yield from _journal(installation, now)
        yield from _listening(installation)
        for name, alerter in alerters.items():
            yield reached(name, alerter)

    return Examination(str(installation.file), tuple(lines()), now)


def _configuration(installation: Installation) -> Iterator[Line]:
    check, services = "watcher.yaml", installation.services.values()
    rules = sum(len(each.rules) for each in services)
    modes = ", ".join(f"{each.name} {each.mode.value}" for each in services)
    yield Line(check, "pass", f"{rules} rule{'s' * (rules > 1)}; {modes}")
    armed = [each.name for each in services if each.mode is Mode.ARMED]
    if armed and installation.ping is None:
        fix = "give it an address that gives alarm when it hears no more: `ping: {url_file: PATH}`"
        yield Line(check, "warn", f"{', '.join(armed)} armed, and nobody would hear that watcher itself died", fix)


def _secrets(installation: Installation) -> Iterator[Line]:
    """Look at every file that a key ending in `_file` names, but certificates: readable, and not by everybody."""
    files = dict(_files(installation))
    for key, path in files.items():
        try:
            mode, size = path.stat().st_mode, len(path.read_bytes())
        except OSError as error:
            yield Line(
                "secrets", "fail", f"{key}: {path} cannot be read: {error.strerror}", "write it, or mend its path"
            )
            continue
        if not size:
            yield Line(SECRETS, "fail", f"{key}: {path} is empty", "write the secret into it")
        elif mode & stat.S_IRWXO:
            yield Line(SECRETS, "warn", f"{key}: everybody on this machine may read {path}", f"chmod o-rwx {path}")
    if files and all(path.is_file() for path in files.values()):
        yield Line(SECRETS, "pass", f"{len(files)} file{'s' * (len(files) > 1)} can be read")


def _files(installation: Installation) -> Iterator[tuple[str, Path]]:
    parts = {"metrics": installation.metrics, "slack": installation.slack, "http": installation.http}
    for name, part in {**parts, "ping": installation.ping}.items():
        for key, value in vars(part).items() if part is not None else ():
            if key.endswith("_file") and value is not None and key != "ca_file":
                yield f"{name}.{key}", Path(value)
    for header, path in installation.metrics.header_files.items():
        yield f"metrics.headers.{header}_file", path
    for service in installation.services.values():
        for entry in service.releases:
            for kind, settings in (entry.kill or {}).items():
                for key, value in settings.items() if isinstance(settings, Mapping) else ():
                    if key.endswith(("token_file", "secret_file")):
                        yield f"{entry.key}.kill.{kind}.{key}", Path(str(value))


def _metrics(installation: Installation, source: PrometheusSource, now: float) -> Iterator[Line]:
    check = METRICS
    try:
        apart = source.clock() - now
    except SourceError as error:
        yield Line(
            check, "fail", str(error), "mend it first: nothing is judged, and nothing turned off, without metrics"
        )
        return
    said = skewed(apart)
    yield Line(check, "warn" if said else "pass", said or f"{source.url} answers, and its clock agrees with this one's")
    for service in installation.services.values():
        yield _measured(installation, service, source, now)


def _measured(installation: Installation, service: Service, source: PrometheusSource, now: float) -> Line:
    block = installation.block
    end = float(np.floor((now - installation.settle) / block) * block)
    start = end - float(np.ceil(LATELY / block)) * block
    try:
        seen = source.observe(Request(service.rules, start, end, block, service.select))
    except SourceError as error:
        return Line(METRICS, "fail", f"{service.name}: {error}", "mend the rule that it names, or the server")
    silent = [rule.label for rule in service.rules if not seen[rule.name].treatment.total.any()]
    if not silent:
        return Line(METRICS, "pass", f"{service.name}: every rule measured something lately")
    said = f"{service.name}: nothing measured in the last {LATELY / 60:g} minutes by {', '.join(silent)}"
    status: Status = "fail" if len(silent) == len(service.rules) else "warn"
    return Line(
        "metrics", status, said, "check the names of the metrics and `select`; without traffic that is as it is"
    )


def _journal(installation: Installation, now: float) -> Iterator[Line]:
    url = make_url(installation.journal)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        yield Line(JOURNAL, "warn", f"{url.database} is not there yet", "the daemon makes it: `watcher run`")
        return
    try:
        with Journal.open(installation.journal) as journal:
            journal.prove()
            yield Line(JOURNAL, "pass", f"{journal.name} can be read and written, and has room")
            yield _daemon(journal)
            yield from _held_back(installation, journal, now)
            yield from _switches(installation, journal)
    except JournalError as error:
        yield Line(JOURNAL, "fail", str(error), "until then nothing is turned off, and nothing told")


def _daemon(journal: Journal) -> Line:
    try:
        with journal.hold():
            return Line(DAEMON, "warn", "no daemon runs on this journal", "watcher run")
    except Refused as error:
        return Line(DAEMON, "pass", f"a daemon runs on it: {str(error).partition('(')[2].partition(')')[0]}")


def _held_back(installation: Installation, journal: Journal, now: float) -> Iterator[Line]:
    paused, latched = interlocks.held_back(journal, installation.file, now), interlocks.latched(journal)
    if paused:
        yield Line(DAEMON, "warn", paused, "watcher resume; or take the file away")
    if latched:
        yield Line(DAEMON, "warn", latched, "watcher resume --latch --reason TEXT")
    if not paused and not latched:
        yield Line(DAEMON, "pass", "nothing holds it back: no pause, no latch")


def _switches(installation: Installation, journal: Journal) -> Iterator[Line]:
    """Read every flag there is; what a kill would do is asked, and not done."""
    check, found = SWITCHES, list(drill.flags(installation, journal.watches()))
    if not found:
        yield Line(check, "warn", "there is no kill switch", "give a release `kill`, and see docs/switches.md")
    for reading in drill.read_all(found):
        flag = reading.flag
        if reading.state is None:
            yield Line(
                check, "fail", f"{flag.place}: {reading.problem}", f"then try: watcher flags status {flag.feature}"
            )
        elif flag.service.mode is Mode.ARMED and not flag.allowed:
            fix = f"add to may_turn_off: - {{switch: {flag.switch}, feature: {flag.feature}, "
            fix += f"environment: {flag.service.environment}}}"
            yield Line(check, "warn", f"{flag.place} is read, and armed, and watcher may not turn it off", fix)
        else:
            yield Line(check, "pass", f"{flag.place} is read: {'on' if reading.state.on else 'off'}")


def _listening(installation: Installation) -> Iterator[Line]:
    if installation.http is None:
        return
    url = f"http://{installation.http.listen}/readyz"
    try:
        answer = ask("GET", url, headers={}, accept=(503,), patience=(2.0, 5.0))
    except SwitchError as error:
        yield Line(DAEMON, "warn", f"{url}: {error}", "watcher run")
        return
    said = answer.body.decode("utf-8", "replace").strip()[:200]
    fix = "" if answer.status == 200 else "its log says more"
    yield Line(DAEMON, "pass" if answer.status == 200 else "fail", f"{url} says: {said}", fix)


def unread(config: str, error: WatcherError, now: float) -> Examination:
    """Return what there is to say of an installation whose watcher.yaml is wrong."""
    return Examination(config, (Line("watcher.yaml", "fail", str(error), "mend that first"),), now)

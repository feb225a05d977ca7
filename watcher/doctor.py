"""The checklist of an installation, executed: does each part that watcher.yaml names do its work, and how to mend it?

Every check is a function to lines; what cannot be asked is a line that failed, and hides no other. Nothing is changed:
switches are only read, no message is sent, a journal that is not there yet is not made, and what is written to prove
that one can be is taken back.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from watcher import assembly, interlocks
from watcher.clock import skewed
from watcher.config import Installation, Service
from watcher.drill import read_all
from watcher.drill.flags import flags
from watcher.errors import ConfigError, JournalError, SourceDown, SourceError, SwitchError
from watcher.journal import Journal, Watched
from watcher.look import Source
from watcher.model import Mode, Request, Rule, Target
from watcher.preflight.data import CHECK_NAMES, REPAIR
from watcher.preflight.people import reached
from watcher.report.preflight import Checkup, Line
from watcher.secrets import SECRET_NAME, secret
from watcher.sources.sides import sides_of
from watcher.switches.http import ask

HOUR: Final = 3600.0
LITTLE: Final = 256 << 20
"""Bytes free on the journal's disk, below which somebody should make room before it is full."""
PATIENCE: Final = (2.0, 5.0)
"""Seconds to connect to the daemon, and to wait for its answer."""


def examine(config: str, now: float) -> Checkup:
    """Go through the checklist of an installation. Changes nothing.

    Args:
        config: its watcher.yaml.
        now: epoch seconds.
    """
    return Checkup(config, tuple(_lines(config, now)), now)


def _lines(config: str, now: float) -> Iterator[Line]:
    try:
        installation = assembly.installed(config)
    except ConfigError as error:
        yield Line("configuration", "fail", str(error), "correct that and run this again: all else depends on it")
        return
    yield Line("configuration", "pass", f"{config} is valid; services: {', '.join(sorted(installation.services))}")
    yield from _metrics(installation, now)
    yield from _secrets(installation)
    yield from _people(installation)
    yield from _ping(installation)
    watches: list[Watched] = []
    try:
        journal = Journal.existing(installation.journal)
        if journal is None:
            fix = "start `watcher run`, which makes it"
            yield Line("journal", "warn", f"there is no journal at {installation.journal} yet", fix)
        else:
            with closing(journal):
                yield from _journal(journal)
                yield from _daemon(installation, journal)
                yield from _acting(installation, journal, now)
                watches = journal.watches()
    except JournalError as error:
        yield Line("journal", "fail", str(error), "repair that: without it nothing is judged, nor turned off")
    yield from _switches(installation, watches)


def _metrics(installation: Installation, now: float) -> Iterator[Line]:
    url = installation.metrics.prometheus
    try:
        source = assembly.prometheus(installation.metrics)
        apart = source.clock() - now
    except (ConfigError, SourceError) as error:
        yield Line("server", "fail", f"the metrics cannot be read: {error}", REPAIR)
        return
    skew = skewed(apart)
    if skew:
        said, _, fix = skew.partition(": ")
        yield Line("server", "fail", said, fix)
    else:
        yield Line("server", "pass", f"{url} answers, and its clock agrees with this machine's")
    for service in installation.services.values():
        yield from _data(installation, service, source, now)


def _data(installation: Installation, service: Service, source: Source, now: float) -> Iterator[Line]:
    """Read an hour of each rule of a service, one by one, so that one that cannot be read hides no other."""
    block = installation.block
    end = math.floor((now - installation.settle) / block) * block
    start = end - math.ceil(HOUR / block) * block
    whole = True
    for rule in service.rules:
        asked = Request((rule,), start, end, block, service.select)
        try:
            there = bool(source.observe(asked)[rule.name].treatment.total.any())
        except SourceDown as error:
            yield Line("data", "fail", f"{service.name}: the metrics cannot be read: {error}", REPAIR)
            return
        except SourceError as error:
            there, fix = False, f"correct the rule {rule.name} in its pack"
            yield _lacking(service, rule, f"cannot be read: {error}", fix)
        else:
            if not there:
                side = sides_of(rule, asked)[0]
                said = f"has no data in the last hour: nothing matches {side.total or side.events}"
                yield _lacking(service, rule, said, CHECK_NAMES)
        whole &= there
    if whole:
        yield Line("data", "pass", f"{service.name}: all {len(service.rules)} rules were measured in the last hour")


def _lacking(service: Service, rule: Rule, said: str, fix: str) -> Line:
    return Line("data", "fail" if rule.required else "warn", f"{service.name}: {rule.label} {said}", fix)


def _secrets(installation: Installation) -> Iterator[Line]:
    whole, files = True, dict(_secret_files(installation))
    for path, read in files.items():
        shown = shlex.quote(str(path))
        try:
            read()
            found = os.stat(path)
        except (ConfigError, OSError) as error:
            fix = f"mend {shown}, which the daemon's user must be able to read"
            yield Line("secrets", "fail", str(error), fix)
            whole = False
            continue
        # Where it is another's file, its group may be how the daemon reads it.
        loose = found.st_mode & (0o077 if os.geteuid() in (0, found.st_uid) else 0o007)
        if loose:
            said = f"{path} may be read by others (mode {found.st_mode & 0o777:o})"
            yield Line("secrets", "warn", said, f"chmod {'go=' if loose & 0o070 else 'o='} {shown}")
            whole = False
    if whole:
        count = f"{len(files)} file{'' if len(files) == 1 else 's'}"
        yield Line("secrets", "pass", f"{count}: readable, and by nobody else" if files else "no file holds a secret")


def _secret_files(installation: Installation) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Yield the files of secrets that watcher.yaml names, those of its kill switches too, and what reads each."""
    metrics, slack, http, ping = installation.metrics, installation.slack, installation.http, installation.ping
    own = [metrics.bearer_file, metrics.password_file, *metrics.header_files.values()]
    own += [slack.token_file, slack.webhook_file, slack.signing_secret_file, slack.app_token_file] if slack else []
    own += [http.github_secret_file] if http else []
    own += [manager.bearer_file, manager.password_file] if (manager := installation.alertmanager) else []
    own += [path for each in installation.webhooks for path in (each.url_file, each.secret_file)]
    own += [ping.url_file] if ping else []
    for service in installation.services.values():
        for entry in service.releases:
            own += _named_in(entry.kill or {})
    yield from ((path, partial(secret, path)) for path in own if path is not None)
    # These have a line for each of whom they let in.
    if http and http.tokens_file:
        yield http.tokens_file, http.tokens
    if http and http.webhook_secrets_file:
        yield http.webhook_secrets_file, http.webhook_keys


def _named_in(settings: Mapping[str, Any], whole: bool = False) -> Iterator[Path]:
    """Yield the files of secrets among the settings of a switch; of headers (`whole`) each file is one."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _named_in(value, name == "headers")
        elif isinstance(value, str) and name.endswith("_file") and (whole or SECRET_NAME.search(name)):
            yield Path(value)


def _people(installation: Installation) -> Iterator[Line]:
    try:
        told = assembly.alerters(installation)
    except ConfigError as error:
        yield Line("people", "fail", f"nobody is told: {error}", "write the secret into its file")
        return
    for name, alerter in told.items():
        yield reached(name, alerter)


def _ping(installation: Installation) -> Iterator[Line]:
    armed = [service.name for service in installation.services.values() if service.mode is Mode.ARMED]
    if installation.ping is None:
        if armed:
            said = f"{', '.join(armed)} is armed, and nobody would notice that watcher is gone"
            yield Line("ping", "warn", said, "add `ping: {url_file: PATH}` to watcher.yaml: a dead man's switch")
        return
    try:
        installation.ping.address()
    except ConfigError as error:
        yield Line("ping", "fail", str(error), "write the URL of a dead man's switch there")
    else:
        yield Line("ping", "pass", "`ping` has an address")


def _journal(journal: Journal) -> Iterator[Line]:
    journal.prove()
    free = journal.free()
    room = "" if free is None else f"; {free / 2**30:.1f} GiB are free on its disk"
    if free is not None and free < LITTLE:
        yield Line("journal", "warn", f"{journal.name} can be written{room}", "make room before it is full")
    else:
        yield Line("journal", "pass", f"{journal.name} is current and can be written{room}")


def _daemon(installation: Installation, journal: Journal) -> Iterator[Line]:
    who = journal.held_by()
    if not who:
        yield Line("daemon", "warn", "no daemon runs on this journal: nothing is watched", "start `watcher run`")
        return
    if installation.http is None:
        yield Line("daemon", "pass", f"one runs: {who}")
        return
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(installation.http.host)
    listen = installation.http.listen if host is None else f"{host}:{installation.http.port}"
    try:
        answer = ask("GET", f"http://{listen}/readyz", headers={}, accept={503}, patience=PATIENCE)
    except SwitchError as error:
        fix = "is it another watcher? stop it, or give this one a `journal` of its own; else its log says why"
        yield Line("daemon", "fail", f"the journal is held ({who}), and its holder is not ready: {error}", fix)
        return
    if answer.status == 200:
        yield Line("daemon", "pass", f"one runs: {who}; it is ready")
    else:
        said = answer.body.decode(errors="replace")
        yield Line("daemon", "fail", f"one runs ({who}) and is not ready: {said}", "see the last lines of its log")


def _acting(installation: Installation, journal: Journal, now: float) -> Iterator[Line]:
    pause, latch = interlocks.held_back(journal, installation.file, now), interlocks.latched(journal)
    if pause is not None:
        yield Line("acting", "warn", pause, "`watcher resume` ends a pause before its time; a file is taken away")
    if latch:
        yield Line("acting", "warn", latch, "look at what was turned off, then `watcher resume --latch --reason TEXT`")
    if pause is None and not latch:
        yield Line("acting", "pass", "kills are not paused, and the latch is open")


def _switches(installation: Installation, watches: list[Watched]) -> Iterator[Line]:
    """Read every flag once, and say which ones of armed services may not be turned off."""
    found = list(flags(installation, watches))
    for each in read_all(found):
        flag, state = each.flag, each.state
        if state is None:
            fix = f"repair that, then rehearse: watcher flags kill {shlex.quote(flag.feature)} --dry-run"
            yield Line("switches", "fail", f"{flag.place} by {flag.switch}: {each.problem}", fix)
        else:
            shown = state.shown or state.serving or ("on" if state.on else "off")
            yield Line("switches", "pass", f"{flag.place} by {flag.switch}: {shown}")
    for flag in found:
        if flag.service.mode is Mode.ARMED and not flag.allowed:
            target = Target(flag.switch, flag.feature, flag.service.environment)
            said = f"{flag.place} is of an armed service, and watcher may not turn it off"
            yield Line("acting", "warn", said, f"if it shall, add to may_turn_off: - {target}")

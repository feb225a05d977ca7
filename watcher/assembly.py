"""Puts an installation together from watcher.yaml, and answers questions about it from its journal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watcher import following, intake, interlocks, recorded, records, sample, tokens
from watcher.act import Alerter, Outbox
from watcher.alerts import alerter
from watcher.clock import Clock, wall_clock
from watcher.config import (
    Installation,
    Metrics,
    Service,
    load_installation,
    parse_duration,
    parse_moment,
    parse_share,
    switch_key,
)
from watcher.daemon import Daemon
from watcher.deeds import deeds, stamp
from watcher.errors import ConfigError, Refused, SwitchError
from watcher.following import Sight
from watcher.journal import Journal
from watcher.model import Alert, Exposure, Look, Watch
from watcher.observer import Everybody, Observer
from watcher.oneoff import Comparison
from watcher.overview import overview
from watcher.ping import Ping
from watcher.preflight import Preflight, Said, asked, run
from watcher.report.release_page import Beside
from watcher.sample import Sent
from watcher.secrets import secret
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP
from watcher.switches import Dial, switch


def installed(config: str) -> Installation:
    """Read watcher.yaml, for a daemon.

    Raises:
        ConfigError: it is wrong, names a switch there is not, or wants a share raised by one that can only turn off.
    """
    installation = load_installation(config)
    for service in installation.services.values():
        for entry in service.releases:
            key = switch_key(entry)
            if key is not None and not isinstance(switch(key), Dial) and entry.promote:
                problem = (
                    f"{key.partition(':')[0]} can turn off, but not raise a share: leave this out, and raise it by hand"
                )
                raise ConfigError(problem, file=config, key=f"{entry.key}.promote")
    return installation


@contextmanager
def daemon(installation: Installation, *observers: Observer, clock: Clock = wall_clock) -> Iterator[Daemon]:
    """Open everything watcher.yaml names; close it at the end. Observers are told what the daemon does.

    Raises:
        ConfigError: an address is taken, or a secret cannot be read.
        JournalError: the journal cannot be opened.
        Refused: another daemon runs on this journal, or armed where that is not allowed.
    """
    from watcher.server import Metrics, serving

    # Holding comes first: a second daemon by mistake ends before it touches what the first one does.
    with Journal.open(installation.journal) as journal, journal.hold() as hold:
        metrics = Metrics(installation, journal, clock)
        with serving(installation, journal, clock, metrics), _socket_mode(installation, journal, clock):
            source = prometheus(installation.metrics)
            page = None if installation.http is None else installation.http.url
            outbox = Outbox(journal, switch, alerters(installation), page=page)
            told = Everybody(metrics, *_pings(installation, journal, source, metrics), *observers)
            yield Daemon(installation, journal, source, outbox, observer=told, hold=hold)


@contextmanager
def _socket_mode(installation: Installation, journal: Journal, clock: Clock) -> Iterator[None]:
    """Let clicks and commands come in through Slack's Socket Mode, where watcher.yaml says so."""
    settings = installation.slack
    token = None if settings is None else settings.app_token()
    if settings is None or token is None:
        yield
        return
    # Only the daemon serves, and few use this.
    from watcher.server import socket_mode
    from watcher.server.clicks import Clicks, dialogue
    from watcher.server.heard import Heard
    from watcher.server.slash import Slash

    speaker = dialogue(settings)
    assert speaker is not None, "Socket Mode takes a bot token"
    slash = Slash(installation, settings, journal, clock, Heard(journal), Clicks(settings, journal, speaker))
    with socket_mode.connected(token, speaker.client, socket_mode.Envelopes(slash)):
        yield


def _pings(
    installation: Installation, journal: Journal, source: PrometheusSource, told: Observer
) -> Iterator[Observer]:
    if installation.ping is not None:
        # It is read before each ping; that it can be is better known now.
        installation.ping.address()
        yield Ping(installation.ping, (journal.prove, source.answers), told)


def prometheus(metrics: Metrics) -> PrometheusSource:
    """Return the source a `metrics` section describes, secrets read now."""
    client = PrometheusHTTP(
        metrics.prometheus,
        auth=metrics.basic_auth(),
        bearer=metrics.bearer(),
        ca_bundle=str(metrics.ca_file) if metrics.ca_file else None,
        headers=metrics.request_headers(),
    )
    return PrometheusSource(client, metrics.replica_label)


def alerters(installation: Installation) -> dict[str, Alerter]:
    """Return everybody who is told, by name, secrets read now; where nobody is named, it is the console."""
    found: dict[str, Alerter] = {}
    slack, manager = installation.slack, installation.alertmanager
    if slack is not None:
        found["slack"] = alerter(
            "slack",
            token=_read(slack.token_file),
            webhook_url=_read(slack.webhook_file),
            channel=slack.channel,
            mention=slack.mention,
            base_url=slack.base_url,
            clickable=bool(slack.users),
        )
    if manager is not None:
        found["alertmanager"] = alerter(
            "alertmanager",
            url=manager.url,
            bearer=_read(manager.bearer_file),
            username=manager.username,
            password=_read(manager.password_file),
            ca_file=None if manager.ca_file is None else str(manager.ca_file),
        )
    for each in installation.webhooks:
        found[f"webhook {each.name}"] = alerter(
            "webhook",
            url=each.url or _read(each.url_file),
            hidden=each.url is None,
            secret=_read(each.secret_file),
            ca_file=None if each.ca_file is None else str(each.ca_file),
        )
    return found or {"console": alerter("console")}


def _read(path: Path | None) -> str | None:
    return None if path is None else secret(path)


def service_of(installation: Installation, name: str | None) -> Service:
    """Return a service by its name; None: the only one.

    Raises:
        Refused: there is no such service, or nobody says which.
    """
    services = installation.services
    if name is None and len(services) == 1:
        return next(iter(services.values()))
    if name is None or name not in services:
        problem = "say which service with --service" if name is None else f"watcher.yaml has no service {name!r}"
        raise Refused(f"{problem}; it has: {', '.join(sorted(services))}")
    return services[name]


@contextmanager
def _journal(config: str) -> Iterator[tuple[Installation, Journal]]:
    installation = load_installation(config)
    with Journal.open(installation.journal) as journal:
        yield installation, journal


def start_release(config: str, service: str, feature: str, *, now: float, by: str, **given: Any) -> tuple[str, str]:
    """Record a release that somebody tells of; the daemon takes it up at its next tick.

    A share of 0 % is a version that nobody is exposed to yet: it is recorded, and waits.

    Returns:
        The release, or what waits; and what is odd about it, for people.

    Raises:
        Refused: no such service or strategy.
    """
    with _journal(config) as (installation, journal):
        owner = service_of(installation, service)
        exposure = Exposure(
            feature=feature,
            version=given["version"],
            at=parse_moment(given["exposed_at"]) if given["exposed_at"] else now,
            share=parse_share(given["share"]) if given["share"] else None,
            previous=given["previous"],
            reversible=not given["not_reversible"],
        )
        found = intake.told(installation, journal, owner, exposure, given["strategy"], f"release start by {by}")
        if found.release is None:
            return f"{owner.name}/{owner.environment}/{feature}@{exposure.version} waits for exposure", ""
        return found.release, _unopened(journal.watch(found.release), config)


def _unopened(watch: Watch, config: str) -> str:
    """Return what its own switch has against users being exposed to a release."""
    try:
        state = None if watch.switch is None else switch(watch.switch).read(watch.release.feature)
    except (SwitchError, ConfigError) as error:
        return f"its switch cannot be read: {error}"
    if state is None or state.on:
        return ""
    said = f"its switch says that nobody has it ({state.shown}), and it is watched as if users had"
    typed = ["watcher", "release", "stop", watch.release.id, "--reason", "not open yet", "--config", config]
    return f"{said}; to end that, type: {shlex.join(typed)}"


def preflight(config: str, release: str, *, now: float, **given: Any) -> Preflight:
    """Go through the checklist of a release that the journal knows, or that nobody has made yet.

    Raises:
        Refused: no such service or strategy, or a version that nobody says.
    """
    with _journal(config) as (installation, journal):
        source = prometheus(installation.metrics)
        said = Said(
            strategy=given["strategy"],
            previous=given["previous"],
            share=parse_share(given["share"]) if given["share"] else None,
            reversible=not given["not_reversible"],
        )
        service, entry, found = asked(installation, journal, source, release, said, now)
        told = alerters(installation)
        return run(
            installation, service, entry, found,
            source=source, switches=switch, alerters=told, journal=journal, now=now,
        )  # fmt: skip


def accept_release(config: str, release: str, rule: str, reason: str, *, now: float, by: str) -> None:
    """Record that a person takes a rule's harm as intended."""
    with _journal(config) as (_, journal):
        intake.accept(journal, release, rule, reason, now, by)


def stop_release(config: str, release: str, reason: str, *, now: float, by: str) -> None:
    """End a watch by hand."""
    with _journal(config) as (_, journal):
        intake.stop(journal, release, f"{reason}, {by}", now)


def list_releases(config: str) -> list[str]:
    """Return one line per release."""
    with _journal(config) as (_, journal):
        return [
            f"{stamp(each.watch.release.exposed_at)}  {each.status:<12} {each.watch.release.id}"
            for each in journal.watches()
        ] or ["no release has been noticed yet"]


def release_ids(config: str) -> list[str]:
    """Return the ids of all releases, the latest first; none where no journal has been made."""
    journal = Journal.existing(load_installation(config).journal)
    if journal is None:
        return []
    with journal:
        return [each.watch.release.id for each in reversed(journal.watches())]


def show_release(config: str, release: str) -> list[str]:
    """Return what is known of a release."""
    with _journal(config) as (_, journal):
        last = journal.last_look(release)
        watch = journal.watch(release)
        head = [release, f"exposed {stamp(watch.release.exposed_at)}, {watch.design.value}, mode {watch.mode.value}"]
        head += [f"also called {', '.join(watch.release.also)}"] if watch.release.also else []
        if last is None:
            return [*head, "not looked at yet"]
        said = [f"{last.verdict.outcome.value.upper()}: {last.verdict.reason}", f"phase {last.phase}"]
        streams = [f"  {each.outcome.value:<13} {each.reason}" for each in last.verdict.streams if not each.dormant]
        done = [f"  {stamp(each.at)}  {each.said}" for each in deeds(journal, release)]
        return [*head, *said, *streams, "done, refused and told:", *done]


def new_token(config: str, name: str, may: Sequence[str]) -> tuple[str, str]:
    """Make a token for HTTP; return it, and the file that knows it from now on.

    Raises:
        ConfigError: watcher.yaml names no such file, it cannot be written, or it knows the name already.
    """
    http = load_installation(config).http
    if http is None or http.tokens_file is None:
        problem = "is missing: say where to listen, and with `tokens_file: PATH` where tokens are known"
        raise ConfigError(problem, file=config, key="http")
    return tokens.give(http.tokens_file, name, may), str(http.tokens_file)


def pause(config: str, length: str, reason: str, *, now: float, by: str) -> str:
    """Pause what watcher does by itself, and return that in words.

    Raises:
        Refused: it would last too long, or nobody says why.
    """
    with _journal(config) as (_, journal):
        return str(interlocks.pause(journal, parse_duration(length), reason, by, now))


def resume(config: str, *, now: float, by: str) -> str:
    """End a pause, and return what changed in words."""
    with _journal(config) as (installation, journal):
        ended = interlocks.resume(journal, by, now)
        still = interlocks.held_back(journal, installation.file, now)
    said = "kills were not paused" if ended is None else f"kills are not paused any more: {ended.reason}"
    return said if still is None else f"{'' if ended is None else f'the pause is over ({ended.reason}), but '}{still}"


def open_latch(config: str, reason: str, *, now: float, by: str) -> str:
    """Open the latch that closed after many kills, and return what changed in words.

    Raises:
        Refused: nobody says why.
    """
    with _journal(config) as (_, journal):
        opened = interlocks.open_latch(journal, reason, by, now)
        return "the latch is open again: watcher acts where it is armed" if opened else "the latch was not closed"


def status(config: str, now: float) -> list[str]:
    """Return what holds watcher back, then one line per release being watched."""
    with _journal(config) as (installation, journal):
        return overview(installation, journal, now)


def comparison(config: str, release: str) -> Comparison:
    """Return what the daemon found of a release, from the journal alone, with everything it rests on.

    Args:
        config: path of watcher.yaml.
        release: an id, or the name of a feature: its newest release.

    Raises:
        Refused: there is no such release, or it was not looked at yet.
    """
    with _journal(config) as (_, journal):
        return records.comparison(journal, records.watched(journal, release))


def beside(config: str, look: Look) -> Beside:
    """Return what is known of a release beside its verdict, given the last look at it."""
    with _journal(config) as (_, journal):
        watched = journal.watched(look.release)
        return Beside() if watched is None else recorded.beside(journal, watched, look)


def send_sample(config: str, *, now: float, by: str) -> list[Sent]:
    """Send everybody a message that says that it is a test, and return what became of it."""
    return sample.send(alerters(load_installation(config)), by, now)


def rendered(config: str, release: str | None, state: str, *, now: float) -> tuple[Alert, dict[str, Any]]:
    """Return what people would be told of a release, or as a sample of a state, and what everybody would be sent.

    Raises:
        Refused: nobody was told anything of such a release yet.
    """
    installation = load_installation(config)
    alert: Alert | None = sample.sample(state, now)
    if release is not None:
        with _journal(config) as (_, journal):
            watched = following.named(journal, release, ended=True)
            page = None if installation.http is None else installation.http.url
            message = release if watched is None else watched.watch.release.message
            alert = sample.recorded(journal, message, page, now)
    if alert is None:
        raise Refused(f"nobody was told anything of {release!r} yet; `watcher release list` lists releases")
    return alert, sample.rendered(alert, alerters(installation))


def follow(config: str, release: str, rest: Callable[[], bool]) -> Iterator[Sight]:
    """Yield how a release stands, at once and whenever that changed; arguments as `following.follow`."""
    with _journal(config) as (_, journal):
        yield from following.follow(journal, release, rest)


def history(config: str, release: str | None, actions: bool, form: str) -> str:
    """Return looks, or what was done, refused and told, oldest first: a line each, or as JSON."""
    with _journal(config) as (_, journal):
        if actions:
            done = deeds(journal, release)
            lines, name, parts = list(map(str, done)), "actions", [each.to_json() for each in done]
        else:
            names = [release] if release else [each.watch.release.id for each in journal.watches()]
            looks = [(each, line) for each in names for line in journal.looks(each)]
            lines = [f"{stamp(x.at)} {each} {x.outcome.value} ({x.phase}) {x.reason}" for each, x in looks]
            name, parts = "looks", [{"release": each, **asdict(x), "at": stamp(x.at)} for each, x in looks]
    return "\n".join(lines) if form == "table" else json.dumps({"schema": "watcher/history/1", name: parts}, indent=2)

"""The whole installation with its flags in Unleash, for the end-to-end test of strategy `flag` and its benchmark.

with flagged.running(tmp_path, unleash) as here:
    here.begin()
    withdrawal = here.be_withdrawn()
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.planted import plant
from tests.servers import installation
from tests.servers.installation import FileWrites, Served
from tests.servers.unleash_server import ENVIRONMENT, UnleashServer
from tests.servers.withdrawal import Sightings, Withdrawal

FEATURE = "new-checkout"
EDITOR = 2
"""The role of watcher's account in Unleash: it may turn flags off, and is no administrator."""

HISTORY = 50
"""Seconds of traffic before the first release: 25 blocks, of which the dispersion needs 20 with events."""

USUAL, BAD = 0.04, 0.16
"""Share of the requests that fail, of a good release as of what there was before, and of a bad release."""

# The shops answer 320 requests to the released feature in a block of 2 s, half of them with the release. With 4 % of
# them failing, "not twice as many" is proven after 6 blocks (9 times in ten: 13), and four times as many are found
# after 3 (6). A margin of 50 % would take 14 blocks (33), and 1 % of failures, which is more usual, 47 (114). That no
# more than a tenth of the checkouts are lost can hardly be proven on what a minute says of two instances: it guards.
RULES = """\
pack: shop
by: [feature]
unit: instance
rules:
  - name: request-errors
    title: Requests that failed
    kind: ratio
    bad: http_requests_total{code=~"5.."}
    total: http_requests_total
    margin: 100%
    critical: true
  - name: checkout-completion
    title: Checkouts completed
    kind: rate
    events: checkout_completed_total
    per: checkout_started_total
    matures: 2s
    worse: lower
    margin: 10%
    required: false
"""

# Every request is that of a user drawn anew, so that requests can stand for users in `split`.
CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
block: 2s
settle: 2s
slack: {{token_file: slack-token, channel: "#releases", base_url: "{slack}"}}
may_turn_off: [{{switch: unleash, feature: new-checkout, environment: production}}]
services:
  shop:
    select: {{job: shop}}
    rules: [rules.yaml]
    mode: armed
    watch_for: 10m
    warm_up: 5s
    releases:
      - strategy: flag
        notice: {{switch: true, features: [new-checkout]}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        focus: {{feature: "{{feature}}"}}
        split: {{assigned: 'http_requests_total{{feature="{{feature}}"}}', share: notice}}
        kill: {{unleash: {{url: "{unleash}", environment: {environment}, token_file: unleash-token}}}}
        history: 60s
"""


IN_A_FILE = (
    CONFIG.replace("{{switch: unleash,", "{{switch: yaml_flags,")
    .replace("{{switch: true, features:", "{{flags_file: feature-flags.yaml, features:")
    .replace(
        '{{unleash: {{url: "{unleash}", environment: {environment}, token_file: unleash-token}}}}',
        "{{yaml_flags: feature-flags.yaml}}",
    )
)
"""The same of a flag in a file."""


class Observed(Served):
    """An installation whose users are counted, half of them with the feature while it is on."""

    def fail(self, released: float = USUAL) -> None:
        """Let so many requests of the released variant fail, and of the other as many as ever."""
        for shop in self.shops:
            shop.set_faults(error_rate={"off": USUAL, "on": released})

    def sightings(self) -> Sightings:
        """Return when the released variant is served from now on."""
        return Sightings(self.shops, feature=FEATURE, variant="on")

    def served(self, variant: str) -> float:
        """Return how many requests a variant has answered, by the shops' own count."""
        return sum(shop.count("http_requests_total", feature=FEATURE, variant=variant) for shop in self.shops)


@dataclass
class Filed(Observed):
    """Its users get the feature by a flag in a file."""

    def be_withdrawn(self) -> Withdrawal:
        """Let what users have fail; return once watcher turned it off and no user has it."""
        killed = len(self.kills())
        with FileWrites(self.flags) as file, self.sightings() as seen:
            bad = time.time()
            self.fail(BAD)
            self.eventually(lambda: file.writes, "the flag was turned off")
            self.eventually(seen.are_over, "nobody was served by it any more")
        off = time.time() - (time.monotonic() - file.writes[0][0])
        [kill] = self.kills()[killed:]
        assert kill.action.decided_at is not None
        assert seen.last is not None
        return Withdrawal(bad, kill.action.decided_at, off, seen.last)

    def begin(self) -> None:
        """Learn, open the feature for half of the users, and wait until it is proven fine."""
        self.daemon.start()
        self.gather_history(HISTORY)
        self.open_release()
        self.eventually(self.is_watched, "the release was noticed")
        self.eventually(lambda: self.last_look().verdict.outcome == "healthy", "it was proven healthy")


@dataclass
class Flagged(Observed):
    """Its users get the feature by a flag in Unleash."""

    unleash: UnleashServer

    def begin(self) -> None:
        """Start the daemon, and wait until there is enough past to learn from."""
        self.daemon.start()
        self.gather_history(HISTORY)

    def be_withdrawn(self) -> Withdrawal:
        """Turn the flag on with a variant that fails; return once watcher turned it off and no user has it."""
        killed, turned_off = len(self.kills()), len(self.unleash.turned_off(FEATURE))
        self.fail(BAD)
        with self.sightings() as seen:
            self.unleash.turn_on(FEATURE)
            self.eventually(lambda: len(self.kills()) > killed, "watcher decided to turn it off")
            self.eventually(seen.are_over, "nobody was served by it any more")
        [off] = self.unleash.turned_off(FEATURE)[turned_off:]
        [kill] = self.kills()[killed:]
        assert kill.action.decided_at is not None
        assert seen.first is not None
        assert seen.last is not None
        return Withdrawal(seen.first, kill.action.decided_at, off, seen.last)


@contextmanager
def in_a_file(directory: Path) -> Iterator[Filed]:
    """Start everything but the daemon, with the flag in a file and off; stop everything at the end."""
    with installation.running(directory, None, IN_A_FILE, RULES) as here:
        filed = Filed(here.directory, here.config, here.slack, here.daemon, here.shops, here.metrics)
        filed.fail()
        yield filed


@contextmanager
def running(directory: Path, unleash: UnleashServer) -> Iterator[Flagged]:
    """Start everything but the daemon, with the flag in Unleash and off; stop everything but Unleash at the end."""
    unleash.create(FEATURE, on=False, rollout=50)
    plant(directory / "unleash-token", unleash.personal_token("watcher", EDITOR) + "\n")
    flags = (unleash.url, unleash.backend_token)
    more = {"unleash": unleash.url, "environment": ENVIRONMENT}
    with installation.running(directory, flags, CONFIG, RULES, **more) as here:
        parts = (here.directory, here.config, here.slack, here.daemon, here.shops, here.metrics)
        flagged = Flagged(*parts, unleash=unleash)
        flagged.fail()
        yield flagged

"""watcher.yaml: what is read, what is refused and where; secrets; and the watch of a release."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import MARK, plant
from watcher.config import Installation, Metrics, load_installation, plan
from watcher.config.strict_yaml import LARGEST, parse, read
from watcher.errors import ConfigError
from watcher.model import Alpha, Design, Mode, Release, Selector, Split, Stage, Strategy
from watcher.secrets import from_environment, secret
from watcher.tokens import entry

WHOLE = """\
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090, bearer_file: /run/secrets/prom, replica_label: prometheus_replica}
block: 60s                    # epoch-aligned
settle: 45s
alpha: {regressed: 0.01, before_after: 0.02, healthy: 0.05, split: 0.0001}
slack: {token_file: /run/secrets/slack, channel: "#releases", mention: "<!subteam^S012AB>"}
services:
  shop:
    environment: production
    select: {namespace: prod, job: shop}
    rules: [rules/checkout.yaml]
    tell: ["#support", "#docs"]
    links: {runbook: https://wiki.example/shop, dashboard: https://grafana.example/d/shop}
    mode: observe
    watch_for: 24h
    warm_up: 5m
    require_backtest: true
    releases:
      - strategy: flag
        notice: {flags_file: config/feature-flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        focus: {feature: "{feature}"}
        split: {assigned: sessions_total, share: notice}
        kill: {yaml_flags: config/feature-flags.yaml}
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        split: {assigned: sessions_total, share: switch}
        kill: {haproxy: {socket: /run/haproxy.sock, backend: shop, server: canary}}
      - strategy: blue_green
        notice: {http: true}
        history: 28d
        kill: {haproxy: {socket: /run/haproxy.sock, map: live, to: "{previous}"}}
"""

MAY = "may_turn_off: [{switch: yaml_flags, feature: new-checkout, environment: production}]\n"
ARMED = WHOLE.replace("mode: observe", "mode: armed")
SMALL = """\
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    rules: [checkout]
    releases:
      - {strategy: flag, notice: {http: true}}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Installation]:
    def load(text: str) -> Installation:
        path = tmp_path / "watcher.yaml"
        plant(path, text)
        return load_installation(path)

    return load


Load = Callable[[str], Installation]


def released(version: str = "1.2.0", previous: str | None = "1.1.0", feature: str = "new-checkout") -> Release:
    return Release("shop", "production", feature, version, Strategy.CANARY, (Stage(0.0),), previous)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_a_complete_file_becomes_an_installation(load: Load, tmp_path: Path) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    assert found.journal == f"sqlite:///{tmp_path}/watcher.db"
    assert (found.block, found.settle, found.alpha) == (60.0, 45.0, Alpha(0.01, 0.02, 0.05, 0.0001))
    assert found.metrics.bearer_file == Path("/run/secrets/prom")
    assert found.metrics.replica_label == "prometheus_replica"
    assert found.slack is not None
    assert (found.slack.channel, found.slack.mention) == ("#releases", "<!subteam^S012AB>")
    assert shop.select == (("job", "shop"), ("namespace", "prod"))
    assert shop.tell == ("#support", "#docs")
    assert dict(shop.links)["runbook"] == "https://wiki.example/shop"
    assert (shop.mode, shop.watch_for, shop.warm_up, shop.require_backtest) == (Mode.OBSERVE, 86_400.0, 300.0, True)
    assert [rule.name for rule in shop.rules] == ["request-errors", "checkout-completion", "page-load", "lcp-p75"]


def test_the_three_ways_of_releasing_are_read(load: Load, tmp_path: Path) -> None:
    flag, canary, colours = load(WHOLE).services["shop"].releases
    flags = tmp_path / "config" / "feature-flags.yaml"
    assert (flag.strategy, flag.notice.flags_file, flag.features) == (Strategy.FLAG, flags, ("new-checkout",))
    assert (flag.baseline, flag.treatment) == ((("variant", "off"),), (("variant", "on"),))
    assert flag.kill == {"yaml_flags": str(flags)}
    assert (flag.split, flag.share) == (Split(Selector("sessions_total"), "notice"), None)
    assert (canary.notice.label, canary.features) == ("version", ("shop",))
    assert canary.kill == {"haproxy": {"socket": "/run/haproxy.sock", "backend": "shop", "server": "canary"}}
    assert (colours.notice.http, colours.baseline, colours.history) == (True, None, 28 * 86_400.0)


def test_what_is_left_out_has_careful_defaults(load: Load, tmp_path: Path) -> None:
    found = load(SMALL)
    shop = found.services["shop"]
    assert (found.block, found.settle, found.slack) == (60.0, 45.0, None)
    assert found.journal == f"sqlite:///{tmp_path}/watcher.db"
    assert (shop.environment, shop.mode, shop.require_backtest) == ("production", Mode.OBSERVE, False)
    assert (shop.releases[0].kill, shop.releases[0].history) == (None, 28 * 86_400.0)
    assert (found.alpha.before_after, shop.zone, shop.unusual) == (0.05, "UTC", ())


def unusual(**given: str) -> str:
    """What a service says of its past, one key a line from line 5 on."""
    return SMALL.replace(
        "    releases:", "".join(f"    {key}: {value}\n" for key, value in given.items()) + "    releases:"
    )


def test_days_off_are_those_of_the_service_s_time_zone_and_incidents_say_their_own(load: Load) -> None:
    text = unusual(
        timezone="Europe/Berlin",
        holidays="[2026-12-25, 2026-10-25]",
        incidents="[2026-11-20T10:00:00Z/2026-11-20T12:30:00+01:00]",
    )
    shop = load(text).services["shop"]
    christmas, clocks_change, incident = shop.unusual
    assert shop.zone == "Europe/Berlin"
    assert christmas == (
        datetime(2026, 12, 24, 23, tzinfo=UTC).timestamp(),
        datetime(2026, 12, 25, 23, tzinfo=UTC).timestamp(),
    )
    assert clocks_change[1] - clocks_change[0] == 25 * 3600
    assert incident == (
        datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp(),
        datetime(2026, 11, 20, 11, 30, tzinfo=UTC).timestamp(),
    )


def test_what_is_unusual_is_so_for_every_watch_beside_other_releases(load: Load) -> None:
    found = load(unusual(timezone="Asia/Tokyo", holidays="[2026-12-25]"))
    shop = found.services["shop"]
    watch = plan(found, shop, shop.releases[0], released(), ((1.0, 2.0),))
    assert (watch.zone, watch.excluded) == ("Asia/Tokyo", (*shop.unusual, (1.0, 2.0)))
    assert watch.alpha_in_effect == 0.05


def test_an_installation_cannot_be_changed(load: Load) -> None:
    with pytest.raises(FrozenInstanceError):
        load(SMALL).services["shop"].mode = Mode.ARMED  # type: ignore[misc]


def test_armed_with_a_required_backtest_is_read(load: Load) -> None:
    shop = load(ARMED + MAY).services["shop"]
    assert (shop.mode, shop.require_backtest) == (Mode.ARMED, True)


def test_words_that_other_yaml_takes_for_booleans_are_text(load: Load) -> None:
    flag = load(WHOLE.replace('"off"', "off").replace('"on"', "on")).services["shop"].releases[0]
    assert flag.treatment == (("variant", "on"),)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("sqlite:////var/lib/watcher.db", "sqlite:////var/lib/watcher.db"),
        ("'sqlite:///:memory:'", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql+psycopg://watcher@db.example/watcher", "postgresql+psycopg://watcher@db.example/watcher"),
    ],
)
def test_only_relative_journals_are_resolved(load: Load, url: str, kept: str) -> None:
    assert load(f"journal: {url}\n{SMALL}").journal == kept


def test_a_symbolic_link_is_not_followed_when_paths_are_resolved(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(tmp_path / "elsewhere")
    flag = load(WHOLE).services["shop"].releases[0]
    assert flag.notice.flags_file == tmp_path / "config" / "feature-flags.yaml"


def test_files_in_the_settings_of_a_switch_are_resolved_and_the_rest_is_its_own(load: Load, tmp_path: Path) -> None:
    kill = "{unleash: {url: http://127.0.0.1:4242, token_file: secrets/unleash, token: '${UNLEASH}', strict: true}}"
    entry = load(SMALL.replace("{http: true}", "{http: true}, kill: " + kill)).services["shop"].releases[0]
    assert entry.kill is not None
    assert entry.kill["unleash"]["token_file"] == f"{tmp_path}/secrets/unleash"
    assert entry.kill["unleash"]["token"] == "${UNLEASH}"
    assert entry.kill["unleash"]["strict"] is True


HTTP = "http: {listen: 127.0.0.1:8080, tokens_file: /run/secrets/watcher-token, github_secret_file: secrets/github}\n"


def test_where_to_listen_and_who_may_tell_is_read(load: Load, tmp_path: Path) -> None:
    text = SMALL.replace("    rules:", "    repository: acme/shop\n    rules:") + HTTP
    found = load(text)
    assert found.http is not None
    assert (found.http.host, found.http.port, found.http.listen) == ("127.0.0.1", 8080, "127.0.0.1:8080")
    assert found.http.tokens_file == Path("/run/secrets/watcher-token")
    assert found.http.github_secret_file == tmp_path / "secrets" / "github"
    assert found.services["shop"].repository == "acme/shop"


def test_a_release_told_on_the_command_line_needs_no_address(load: Load) -> None:
    found = load(SMALL)
    assert (found.http, found.services["shop"].repository) == (None, None)
    assert found.services["shop"].releases[0].notice.http


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [("localhost:80", "localhost", 80), ("'[::1]:65535'", "::1", 65535), ("0.0.0.0:1", "0.0.0.0", 1)],
)
def test_an_address_is_a_host_and_a_port(load: Load, written: str, host: str, port: int) -> None:
    found = load(SMALL + HTTP.replace("127.0.0.1:8080", written)).http
    assert found is not None
    assert (found.host, found.port, found.listen) == (host, port, written.strip("'"))


def test_tokens_are_read_when_they_are_needed_and_no_sooner(load: Load, tmp_path: Path) -> None:
    found = load(SMALL + HTTP.replace("/run/secrets/watcher-token", "token")).http
    assert found is not None
    with pytest.raises(ConfigError, match="No such file"):
        found.tokens()
    (tmp_path / "token").write_text(entry("ci", ["releases"], MARK))
    (tmp_path / "secrets").mkdir()
    plant(tmp_path / "secrets" / "github", f"{MARK}-def\n")
    assert ([each.name for each in found.tokens()], found.github_secret()) == (["ci"], f"{MARK}-def")
    assert "def" not in repr(found).replace("default", "")
    only = load(SMALL + "http: {listen: 127.0.0.1:8080, tokens_file: token}\n").http
    assert only is not None
    assert only.github_secret() is None


# --- what is refused ------------------------------------------------------------------------------------------------

AT = "services.shop.releases"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "said"),
    [
        ("settle: 45s", "setle: 45s", 4, "setle", "did you mean `settle`"),
        ("mode: observe", "mod: observe", 14, "services.shop.mod", "did you mean `mode`"),
        ("mode: observe", "mode: arm", 14, "services.shop.mode", "did you mean `armed`"),
        ("block: 60s", "block: 7s", 3, "block", "must divide a day"),
        ("block: 60s", "block: 0s", 3, "block", "must divide a day"),
        ("block: 60s", "block: 1.5d", 3, "block", "must divide a day"),
        ("block: 60s", "block: 60 seconds", 3, "block", "expected a duration"),
        ("settle: 45s", "settle: -1", 4, "settle", "expected a duration"),
        ("warm_up: 5m", "warm_up: -5m", 16, "services.shop.warm_up", "expected a duration"),
        ("warm_up: 5m", "warm_up: 24h", 16, "services.shop.warm_up", "shorter than watch_for"),
        ("regressed: 0.01", "regressed: 1%", 5, "alpha.regressed", "expected a number"),
        ("regressed: 0.01", "regressed: 1", 5, "alpha.regressed", "less than 1"),
        ("regressed: 0.01", "regressed: .nan", 5, None, "not a finite number"),
        ("before_after: 0.02", "before_after: 0", 5, "alpha.before_after", "greater than 0"),
        ("before_after: 0.02", "before_after: 2%", 5, "alpha.before_after", "expected a number"),
        ("before_after: 0.02", "before_afer: 0.02", 5, "alpha.before_afer", "did you mean `before_after`"),
        ("require_backtest: true", "require_backtest: yes", 17, "services.shop.require_backtest", "true or false"),
        ("bearer_file: /run/secrets/prom", f"bearer: {MARK}", 2, "metrics.bearer", "write bearer_file"),
        ("bearer_file: /run/secrets/prom", f"token: {MARK}", 2, "metrics.token", "write bearer_file"),
        (
            "bearer_file: /run/secrets/prom",
            f"username: u, password: {MARK}",
            2,
            "metrics.password",
            "write password_file",
        ),
        ("bearer_file: /run/secrets/prom", "username: u", 2, "metrics.password_file", "is missing"),
        ("bearer_file: /run", "username: u, password_file: p, bearer_file: /run", 2, "metrics.bearer_file", "either"),
        ("bearer_file: /run/secrets/prom", f"headers: {{X-Api-Key: {MARK}}}", 2, "metrics.headers.X-Api-Key", "_file"),
        ("bearer_file: /run/secrets/prom", f"headers: {{X Y: {MARK}}}", 2, "metrics.headers.X Y", "name of a header"),
        ("http://127.0.0.1:9090", "127.0.0.1:9090", 2, "metrics.prometheus", "http://"),
        ("http://127.0.0.1:9090", f"http://u:{MARK}@127.0.0.1", 2, "metrics.prometheus", "password_file"),
        ("sqlite:///watcher.db", "watcher.db", 1, "journal", "expected a URL"),
        ("sqlite:///watcher.db", f"postgresql://u:{MARK}@db/w", 1, "journal", "PGPASSFILE"),
        ("sqlite:///watcher.db", f"postgresql://db/w?password={MARK}", 1, "journal", "PGPASSFILE"),
        ("token_file: /run/secrets/slack", f"token: {MARK}", 6, "slack.token", "write token_file"),
        ("token_file: /run/secrets/slack", f"webhook: {MARK}", 6, "slack.webhook", "write webhook_file"),
        ("token_file: /run/secrets/slack, ", "", 6, "slack.token_file", "exactly one"),
        ('channel: "#releases", ', "", 6, "slack.channel", "is missing"),
        ('["#support", "#docs"]', "[a, 12]", 12, "services.shop.tell.1", 'quote it: "12"'),
        ("https://wiki.example/shop", "javascript:alert(1)", 13, "services.shop.links.runbook", "http://"),
        ("namespace: prod", "namespace: 1.10", 10, "services.shop.select.namespace", 'quote it: "1.10"'),
        ("namespace: prod", 'namespace: "{feature}"', 10, "services.shop.select.namespace", "arms and focus only"),
        ("namespace: prod", "name-space: prod", 10, "services.shop.select.name-space", "pattern"),
        ("rules/checkout.yaml", "rules/shop.yaml", 11, "services.shop.rules.0", "what ships is checkout"),
        ("[rules/checkout.yaml]", "[checkout, checkout]", 11, "services.shop.rules.1", "also in an earlier pack"),
        ("[rules/checkout.yaml]", "[]", 11, "services.shop.rules", "at least one entry"),
        ("  shop:\n", "  sh/op:\n", 8, "services.sh/op", "pattern"),
        ("environment: production", "environment: a@b", 9, "services.shop.environment", "pattern"),
        ("strategy: canary", "strategy: blue-green", 25, f"{AT}.1.strategy", "did you mean `blue_green`"),
        ("flags_file: config/feature-flags.yaml, features", "features", 20, f"{AT}.0.notice.flags_file", "is missing"),
        (", features: [new-checkout]", "", 20, f"{AT}.0.notice.features", "is missing"),
        ("features: [new-checkout]", "label: version", 20, f"{AT}.0.notice.label", "exactly one of"),
        ("{http: true}", "{http: false}", 31, f"{AT}.2.notice.http", "write true"),
        ("{http: true}", "{}", 31, f"{AT}.2.notice", "exactly one of"),
        (', treatment: {variant: "on"}', "", 21, f"{AT}.0.arms.treatment", "is missing"),
        ('baseline: {variant: "off"}, ', "", 21, f"{AT}.0.arms.baseline", "is missing"),
        ('{variant: "on"}', '{variant: "off"}', 21, f"{AT}.0.arms.treatment", "same as the baseline"),
        ('{variant: "on"}', "{variant: 2}", 21, f"{AT}.0.arms.treatment.variant", 'quote it: "2"'),
        ('"{version}"', '"v{version}"', 27, f"{AT}.1.arms.treatment.version", "exactly one of {feature}"),
        ('"{version}"', '"{version}{feature}"', 27, f"{AT}.1.arms.treatment.version", "exactly one of {feature}"),
        ('"{version}"', '"{vesion}"', 27, f"{AT}.1.arms.treatment.version", "did you mean `version`"),
        ('"{version}"', '"{version.__class__}"', 27, f"{AT}.1.arms.treatment.version", "exactly one of"),
        ('"{feature}"', '"{Feature}"', 22, f"{AT}.0.focus.feature", "exactly one of"),
        ("{feature: ", "{route: ", 22, f"{AT}.0.focus.route", "no rule of this service has streams per route"),
        ("sessions_total, share: notice", "'rate(x[5m])', share: notice", 23, f"{AT}.0.split.assigned", "raw counters"),
        ("share: notice", "share: some", 23, f"{AT}.0.split.share", "notice, switch or a share"),
        ("share: notice", "share: [notice]", 23, f"{AT}.0.split.share", "notice, switch or a share"),
        ("share: notice", "share: 100%", 23, f"{AT}.0.split.share", "nothing to split; leave `split` out"),
        ("share: notice", "share: 5%", 23, f"{AT}.0.split.share", "the flags file says the share"),
        ("share: switch", "share: notice", 28, f"{AT}.1.split.share", "write it, such as 5%"),
        ("history: 28d", "split: {assigned: s, share: 5%}", 32, f"{AT}.2.split", "needs arms"),
        ("kill: {yaml_flags: config/feature-flags.yaml}", "kill: {}", 24, f"{AT}.0.kill", "exactly one switch"),
        (
            "kill: {yaml_flags: config/feature-flags.yaml}",
            "kill: {a: b, c: d}",
            24,
            f"{AT}.0.kill",
            "exactly one switch",
        ),
        (
            "kill: {yaml_flags: config/feature-flags.yaml}",
            "kill: {a: [b]}",
            24,
            f"{AT}.0.kill.a",
            "a path or a mapping",
        ),
        ("kill: {yaml_flags: config/feature-flags.yaml}", "kill:", 24, f"{AT}.0.kill", "is empty"),
        (
            "{socket: /run/haproxy.sock, backend",
            f"{{token: {MARK}, backend",
            29,
            f"{AT}.1.kill.haproxy.token",
            "token_file",
        ),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_key(
    load: Load, tmp_path: Path, old: str, new: str, line: int, key: str | None, said: str
) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigError) as caught:
        load(WHOLE.replace(old, new, 1))
    assert said in caught.value.problem
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "watcher.yaml"), line)
    assert caught.value.key == key
    assert MARK not in str(caught.value), "a secret must not be shown"


@pytest.mark.parametrize(
    ("name", "value", "key", "said"),
    [
        ("timezone", "Europe/Berlim", "timezone", "no time zone is called 'Europe/Berlim'"),
        ("timezone", "../../etc/passwd", "timezone", "IANA name"),
        ("timezone", '""', "timezone", "IANA name"),
        ("timezone", "CET/", "timezone", "IANA name"),
        ("timezone", "Europe", "timezone", "IANA name"),
        ("timezone", "2", "timezone", "IANA name"),
        ("timezon", "UTC", "timezon", "did you mean `timezone`"),
        ("holidays", "2026-12-25", "holidays", "list"),
        ("holidays", "[2026-12-24, 2026-02-30]", "holidays.1", "expected a day such as 2026-12-25"),
        ("holidays", "[christmas]", "holidays.0", "expected a day"),
        ("holidays", "[25.12.2026]", "holidays.0", "expected a day"),
        ("holidays", "[{}]", "holidays.0", "expected a day"),
        ("holidays", "[9999-12-31]", "holidays.0", "expected a day"),
        ("incidents", "[2026-11-20]", "incidents.0", "expected FROM/TO"),
        ("incidents", "[2026-11-20T10:00:00Z/]", "incidents.0", "expected a time"),
        ("incidents", "[2026-11-20T10:00:00/2026-11-20T11:00:00]", "incidents.0", "has no time zone"),
        ("incidents", "[2026-11-20T11:00:00Z/2026-11-20T10:00:00Z]", "incidents.0", "ends before it begins"),
        ("incidents", "[2026-11-20T11:00:00Z/2026-11-20T11:00:00Z]", "incidents.0", "ends before it begins"),
    ],
)
def test_a_past_said_wrongly_is_named_by_file_line_and_key(
    load: Load, tmp_path: Path, name: str, value: str, key: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(unusual(**{name: value}))
    assert said in caught.value.problem
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "watcher.yaml"), 5)
    assert caught.value.key == f"services.shop.{key}"


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("listen: 127.0.0.1:8080, ", "", "http.listen", "is missing"),
        ("listen: 127.0.0.1:8080", "listen: 8080", "http.listen", "expected HOST:PORT such as 127.0.0.1:8080"),
        ("listen: 127.0.0.1:8080", "listen: ':8080'", "http.listen", "expected HOST:PORT"),
        ("listen: 127.0.0.1:8080", "listen: 127.0.0.1", "http.listen", "expected HOST:PORT"),
        ("listen: 127.0.0.1:8080", "listen: 127.0.0.1:0", "http.listen", "expected HOST:PORT"),
        ("listen: 127.0.0.1:8080", "listen: 127.0.0.1:65536", "http.listen", "expected HOST:PORT"),
        ("listen: 127.0.0.1:8080", "listen: '::1:8080'", "http.listen", "[::1]:8080"),
        ("listen: 127.0.0.1:8080", "listen: http://127.0.0.1:8080", "http.listen", "expected HOST:PORT"),
        ("listen: 127.0.0.1:8080", "port: 8080", "http.port", "write listen: HOST:PORT"),
        (
            "tokens_file: /run/secrets/watcher-token",
            f"token_file: {MARK}",
            "http.token_file",
            "write tokens_file: PATH",
        ),
        ("github_secret_file: secrets/github", f"secret: {MARK}", "http.secret", "write github_secret_file: PATH"),
        ("tokens_file", "tokns_file", "http.tokns_file", "did you mean `tokens_file`"),
        (
            ", tokens_file: /run/secrets/watcher-token, github_secret_file: secrets/github",
            "",
            "http.tokens_file",
            "nobody could tell of a release",
        ),
    ],
)
def test_what_is_wrong_with_an_address_is_named(load: Load, old: str, new: str, key: str, said: str) -> None:
    assert old in HTTP
    with pytest.raises(ConfigError) as caught:
        load(SMALL + HTTP.replace(old, new))
    assert said in caught.value.problem
    assert (caught.value.line, caught.value.key) == (7, key)
    assert MARK not in str(caught.value), "a secret must not be shown"


@pytest.mark.parametrize("name", ["shop", "https://github.com/acme/shop", "acme/shop/", "acme /shop"])
def test_a_repository_is_its_owner_and_its_name(load: Load, name: str) -> None:
    with pytest.raises(ConfigError, match="must match the pattern") as caught:
        load(SMALL.replace("    rules:", f"    repository: {name}\n    rules:"))
    assert (caught.value.line, caught.value.key) == (4, "services.shop.repository")


def test_armed_needs_a_kill_switch(load: Load) -> None:
    with pytest.raises(ConfigError, match="needs a `kill`") as caught:
        load(SMALL.replace("    rules:", "    mode: armed\n    rules:"))
    assert (caught.value.line, caught.value.key) == (4, "services.shop.mode")


def test_an_armed_service_needs_to_be_told_what_it_may_turn_off(load: Load) -> None:
    assert Mode.ARMED is load(ARMED + MAY).services["shop"].mode
    with pytest.raises(
        ConfigError, match=r"`- \{switch: haproxy, feature: FEATURE, environment: production\}`"
    ) as caught:
        load(ARMED)
    assert caught.value.key == "may_turn_off"


@pytest.mark.parametrize(("right", "wrong"), [("yaml_flags", "unleash"), ("production", "staging")])
def test_a_target_that_no_service_has_is_an_error_with_those_there_are(load: Load, right: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match="haproxy in production, yaml_flags in production") as caught:
        load(WHOLE + MAY.replace(right, wrong))
    assert caught.value.key == "may_turn_off.0"


@pytest.mark.parametrize("wild", ["'*'", "'new-*'", "'{feature}'"])
def test_what_may_be_turned_off_is_named_and_never_a_pattern(load: Load, wild: str) -> None:
    with pytest.raises(ConfigError, match="name each") as caught:
        load(ARMED + MAY.replace("new-checkout", wild))
    assert caught.value.key == "may_turn_off.0.feature"


def test_the_share_of_a_switch_needs_a_switch(load: Load) -> None:
    split = "arms: {baseline: {v: a}, treatment: {v: b}}, split: {assigned: s_total, share: switch}"
    with pytest.raises(ConfigError, match="needs a kill switch") as caught:
        load(SMALL.replace("{http: true}", "{http: true}, " + split))
    assert caught.value.key == f"{AT}.0.split.share"


def test_a_bare_channel_is_a_comment_and_the_error_says_so(load: Load) -> None:
    with pytest.raises(ConfigError, match="in quotes if it starts with #") as caught:
        load(SMALL + "slack:\n  token_file: t\n  channel: #releases\n")
    assert (caught.value.line, caught.value.key) == (9, "slack.channel")


def test_a_wrong_rule_pack_is_named_by_its_own_file_and_line(load: Load, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("pack: own\nrules:\n- {name: a, kind: gauge, value: v, worse: left}\n")
    with pytest.raises(ConfigError) as caught:
        load(SMALL.replace("[checkout]", "[own.yaml]"))
    assert (caught.value.file, caught.value.line, caught.value.key) == (str(tmp_path / "own.yaml"), 3, "rules.0.worse")


# --- YAML -----------------------------------------------------------------------------------------------------------


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", "given twice, first on line 1"),
        ("a:\n- b: {c: 1,\n      c: 2}\n", 3, "a.0.b.c", "given twice, first on line 2"),
        (bomb(9), 4, None, "aliases repeat more than"),
        ("a: &a [*a]\n", 1, None, "refers to nothing before it"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, None, "tag"),
        ("a: !secret x\n", 1, None, "the tag !secret is not allowed"),
        ("a: !!int '5'\n", 1, None, "tag"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, None, "merge keys"),
        ("a: 1\n---\nb: 2\n", 2, None, "more than one document"),
        ("%YAML 1.1\n---\na: on\n", 2, None, "YAML 1.2"),
        ("1: a\n", 1, None, 'quote it: "1"'),
        ("? [a]\n: b\n", 1, None, "a key must be text"),
        ("a: " + "[" * 5_000, 1, None, "nested deeper"),
        ("a: [1\nb: 2\n", 2, None, "not valid YAML"),
        ("a: b: c\n", 1, None, "not valid YAML"),
        ('a: "\\UFFFFFFFF"\n', None, None, "not valid YAML"),
        ("a: \x07\n", None, None, "not valid YAML"),
        ("", None, None, "is empty"),
        ("# nothing\n", None, None, "is empty"),
        ("a: " + "9" * 5_000, None, None, "not valid YAML"),
    ],
)
def test_yaml_beyond_the_plain_subset_is_refused(text: str, line: int | None, key: str | None, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert said in caught.value.problem
    assert (caught.value.file, caught.value.line, caught.value.key) == ("f.yaml", line, key)


def test_a_few_aliases_are_welcome() -> None:
    found = parse("a: &a {x: [1, 2]}\nb: *a\nc: *a\n", "f.yaml")
    assert found.root.value == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2]}}
    assert [found.line(key) for key in "abc"] == [1, 2, 3]


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "a: [on, yes, 12:30:45, 2026-11-20, 1_000, 010, 0o17, 0x1F, 1.10, '1', ~, true, !!str 1.10, .5, 1e3, 0b1]"
    assert parse(text, "f.yaml").root.value["a"] == [
        *("on", "yes", "12:30:45", "2026-11-20", "1_000"),
        *(10, 15, 31, 1.1, "1", None, True, "1.10", 0.5, 1000.0, "0b1"),
    ]


def test_a_file_over_the_cap_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"[" * (LARGEST + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=said) as caught:
            read(path)
        assert caught.value.file == str(path)


def test_text_that_is_not_utf_8_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        read(path)
    assert caught.value.line == 2


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@#,~ \n\t\\x01.e_\x85\ufeff", max_size=60))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        document = parse(text, "f.yaml")
    except ConfigError:
        return
    json.dumps(document.root.value, allow_nan=False)


@given(st.integers(0, len(WHOLE) - 1), st.sampled_from([*"{}[]:,*&!~\"'#\n -0", ""]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_one_wrong_character_is_a_configuration_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, character: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(WHOLE[:at] + character + WHOLE[at + 1 :], encoding="utf-8")
    named = str(path)
    try:
        load_installation(path)
    except ConfigError as error:
        named = error.file or ""
    assert named == str(path)


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_is_the_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    plant(path, f"xoxb-{MARK} 2\n")
    assert secret(path) == f"xoxb-{MARK} 2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (f"{MARK}\n{MARK}\n".encode(), "more than one line"),
        (f"{MARK}\0".encode(), "line"),
        (MARK.encode() + b"\xff", "UTF-8"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_without_showing_it(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "token"
    plant(path, content)
    with pytest.raises(ConfigError, match=said) as caught:
        secret(path)
    assert caught.value.file == str(path)
    assert MARK not in caught.value.problem


def test_a_missing_secret_is_noticed_when_it_is_needed_and_not_before(load: Load, tmp_path: Path) -> None:
    found = load(SMALL.replace("9090", "9090, bearer_file: token"))
    with pytest.raises(ConfigError, match="No such file"):
        found.metrics.bearer()
    plant(tmp_path / "token", f"{MARK}\n")
    assert found.metrics.bearer() == MARK


def test_headers_come_from_files_and_the_environment(load: Load, tmp_path: Path) -> None:
    headers = 'headers: {X-Scope-OrgID: shop, Authorization: "Bearer ${TOKEN}", X-Key_file: key}'
    metrics = load(SMALL.replace("9090}", "9090, " + headers + "}")).metrics
    plant(tmp_path / "key", f"{MARK}-k\n")
    assert metrics.request_headers({"TOKEN": MARK}) == {
        "X-Scope-OrgID": "shop",
        "Authorization": f"Bearer {MARK}",
        "X-Key": f"{MARK}-k",
    }
    assert MARK not in repr(metrics)
    with pytest.raises(ConfigError, match="TOKEN is not set"):
        metrics.request_headers({})


def test_basic_authentication_reads_its_password_when_asked(tmp_path: Path) -> None:
    plant(tmp_path / "p", f"{MARK}-pw\n")
    assert Metrics("http://127.0.0.1", username="u", password_file=tmp_path / "p").basic_auth() == ("u", f"{MARK}-pw")
    assert Metrics("http://127.0.0.1").basic_auth() is None


def test_a_variable_of_several_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="A is more than one line") as caught:
        from_environment("${A}", {"A": "hush\nhush"})
    assert "hush" not in str(caught.value)


def test_variables_are_not_expanded_twice() -> None:
    assert from_environment("${A}$B${C}", {"A": "${C}", "C": "c"}) == "${C}$Bc"


# --- the watch of a release -----------------------------------------------------------------------------------------


def test_a_release_becomes_a_watch(load: Load, tmp_path: Path) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    watch = plan(found, shop, shop.releases[0], released())
    assert (watch.baseline, watch.treatment) == ((("variant", "off"),), (("variant", "on"),))
    assert watch.focus == (("feature", "new-checkout"),)
    assert watch.select == (("job", "shop"), ("namespace", "prod"))
    assert watch.links == shop.links
    assert watch.switch == f"yaml_flags:{tmp_path}/config/feature-flags.yaml"
    assert (watch.block, watch.settle, watch.warm_up, watch.horizon) == (60.0, 45.0, 300.0, 86_400.0)
    assert (watch.rules, watch.mode, watch.design) == (shop.rules, Mode.OBSERVE, Design.CONCURRENT)


def test_arms_take_the_versions_of_the_release(load: Load) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    watch = plan(found, shop, shop.releases[1], released("1.10", "1.9"))
    assert (watch.baseline, watch.treatment) == ((("version", "1.9"),), (("version", "1.10"),))
    assert watch.switch == 'haproxy:{"backend":"shop","server":"canary","socket":"/run/haproxy.sock"}'


def test_without_arms_everybody_is_held_against_the_past(load: Load) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    watch = plan(found, shop, shop.releases[2], released(previous="green"))
    assert (watch.design, watch.baseline, watch.treatment) == (Design.BEFORE_AFTER, None, None)
    assert watch.history == 28 * 86_400.0
    assert watch.switch == 'haproxy:{"map":"live","socket":"/run/haproxy.sock","to":"green"}'


def test_no_kill_is_no_switch(load: Load) -> None:
    found = load(SMALL)
    shop = found.services["shop"]
    assert plan(found, shop, shop.releases[0], released()).switch is None


@pytest.mark.parametrize(
    "hostile", ['1"} or up{x="', "{previous}", "{version}", "a\\", "x\ny", "{0.__class__}", ".*", "%s"]
)
def test_a_hostile_version_stays_one_literal_label_value(load: Load, hostile: str) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    watch = plan(found, shop, shop.releases[1], released(version=hostile, previous="1.1.0"))
    assert watch.treatment == (("version", hostile),)
    sent = str(Selector("requests_total").where(watch.treatment))
    [matcher] = Selector.parse(sent).matchers
    assert (matcher.op, matcher.value) == ("=", hostile)


def test_a_hostile_previous_version_stays_one_setting_of_the_switch(load: Load) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    switch = plan(found, shop, shop.releases[2], released(previous='x","map":"other')).switch
    assert switch is not None
    assert json.loads(switch.removeprefix("haproxy:"))["map"] == "live"


@pytest.mark.parametrize(("entry", "key"), [(1, f"{AT}.1.arms.baseline.version"), (2, f"{AT}.2.kill.haproxy.to")])
def test_a_release_without_a_needed_previous_version_is_refused(load: Load, entry: int, key: str) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    with pytest.raises(ConfigError, match=r"has no \{previous\}") as caught:
        plan(found, shop, shop.releases[entry], released(previous=None))
    assert caught.value.key == key
    assert caught.value.line == {1: 25, 2: 30}[entry]


def test_a_release_of_the_previous_version_has_nothing_to_compare(load: Load) -> None:
    found = load(WHOLE)
    shop = found.services["shop"]
    with pytest.raises(ConfigError, match="nothing to compare"):
        plan(found, shop, shop.releases[1], released("1.1", "1.1"))

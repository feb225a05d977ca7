"""Are the rules about what users feel? A server can be well while its users are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from watcher.model import Rule
from watcher.preflight.server_health import of_server
from watcher.report.preflight import Line

ADD = (
    "add rules for errors, load times and completion of what users came to do: the packs http-prometheus, "
    "http-opentelemetry, web-vitals and checkout ship with watcher"
)


def metrics(rules: Sequence[Rule]) -> Iterator[Line]:
    """Check that at least one required rule is not about the health of servers, and none of those may kill alone."""
    servers = {rule: whose for rule in rules if (whose := of_server(rule.events.metric)) is not None}
    users = [rule for rule in rules if rule not in servers]
    told = ", ".join(f"{rule.name} ({rule.events.metric}: {whose})" for rule, whose in servers.items())
    if not any(rule.required for rule in users):
        if servers and not users:
            all_of = "the only rule measures" if len(servers) == 1 else f"all {len(servers)} rules measure"
            said = f"{all_of} the health of servers: {told}; a bad release does not show there"
        else:
            said = "no rule about what users feel is required"
        yield Line("metrics", "fail", said, ADD if not users else "leave `required: false` out of one of them")
        return
    yield Line("metrics", "pass", f"what users feel: {', '.join(rule.label for rule in users)}")
    alone = [rule for rule in servers if rule.critical]
    if alone:
        yield Line(
            "metrics",
            "warn",
            f"{', '.join(rule.name for rule in alone)}: may turn a release off alone, and says how servers are",
            "leave `critical: true` out there: servers at work are not users in trouble",
        )

"""Is anybody told: are the channels reachable, and are stakeholders, a runbook and whoever is on call named?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from watcher.act import Alerter
from watcher.alerts import Reachable
from watcher.config import Installation, Service
from watcher.errors import AlertError
from watcher.report.preflight import Line


def people(installation: Installation, service: Service, alerters: Mapping[str, Alerter]) -> Iterator[Line]:
    """Check that alerts arrive, without sending any, and that those who need to know are named."""
    if not alerters:
        yield Line("people", "fail", "nobody is told: no alerter is configured", "add `slack` to watcher.yaml")
    for name, alerter in alerters.items():
        yield reached(name, alerter)
    where = f"services.{service.name}"
    bot = installation.slack is not None and installation.slack.token_file is not None
    if service.tell and not bot:
        fix = "give slack.token_file: an incoming webhook has one channel, and nothing else has any"
        yield Line("people", "warn", f"{', '.join(service.tell)} cannot be told", fix)
    elif service.tell:
        yield Line("people", "pass", f"stakeholders: {', '.join(service.tell)}")
    else:
        fix = f'name who has to know in {where}.tell, such as ["#support", "#docs"]'
        yield Line("people", "warn", "no stakeholders are named in `tell`", fix)
    runbook = next((url for name, url in service.links if "runbook" in name.casefold()), None)
    if runbook is not None:
        yield Line("people", "pass", f"runbook: {runbook}")
    else:
        fix = f"write it to {where}.links: {{runbook: https://...}}"
        yield Line("people", "warn", "no message will link to a runbook", fix)
    if installation.slack is None:
        return
    if installation.slack.mention:
        yield Line("people", "pass", f"on call: {installation.slack.mention}")
    else:
        fix = 'name who is on call in slack.mention, such as "<!subteam^S012AB>"'
        yield Line("people", "warn", "nobody is called when a release regresses", fix)


def reached(name: str, alerter: Alerter) -> Line:
    """Say whether an alerter reaches anybody, without telling them anything."""
    if not isinstance(alerter, Reachable):
        doubt = f"whether {name} reaches anybody cannot be asked without telling them something"
        return Line("people", "warn", doubt, "see that its last message arrived")
    try:
        found = alerter.reach()
    except AlertError as error:
        return Line(
            "people", "fail", f"{name} reaches nobody: {error}", "repair that: nobody would hear of a bad release"
        )
    if found.doubt:
        return Line("people", "warn", f"{found.where}: {found.doubt}", found.do)
    return Line("people", "pass", f"{found.where} takes messages")

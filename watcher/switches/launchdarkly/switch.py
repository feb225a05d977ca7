"""The kill switch for feature flags in LaunchDarkly: turns a flag off in one environment, through the REST API.

    kill: {launchdarkly: {project: shop, environment: production, token_file: /run/secrets/launchdarkly}}

Everybody then gets the flag's off variation. Rules, rollouts and other environments stay as people set them. Where the
environment wants changes to be approved, a kill makes the request, and a person has to approve it.
"""

from __future__ import annotations

from watcher.errors import SwitchError
from watcher.model import SwitchState
from watcher.switches.http import PATIENCE
from watcher.switches.launchdarkly.answers import OFF, Environment, Flag
from watcher.switches.launchdarkly.api import Api, LaunchDarklySettings
from watcher.switches.settings import parsed


class LaunchDarkly:
    """Turns flags of one project off in one environment, and never on.

    Args:
        settings: JSON object of `LaunchDarklySettings`.
        patience: seconds to connect, and to wait for each part of an answer.

    Raises:
        ConfigError: a setting is missing, unknown or wrong.
    """

    def __init__(self, settings: str, patience: tuple[float, float] = PATIENCE) -> None:
        self._of = parsed("launchdarkly", settings, LaunchDarklySettings)
        self._api = Api(self._of, patience)

    def __repr__(self) -> str:
        return f"LaunchDarkly({self._of.url!r}, project={self._of.project!r}, environment={self._of.environment!r})"

    def read(self, feature: str) -> SwitchState:
        """Tell whether users get another variation than the off variation, and how many.

        A flag that is off counts as on where that does not take the feature from users, or nobody can say that it does;
        the share is that of the users whom the flag itself gives it.
        The revision is the flag's version in the environment, which LaunchDarkly counts up with every change there.

        Raises:
            SwitchError: there is no such flag, project or environment, the token is not accepted, or nobody answers.
        """
        flag, here = self._api.find(feature)
        # A rollout is by a hash of the user's key: the same user gets the same variation.
        sticky = True if here.on and here.fallthrough.rollout is not None and not here.singles_out else None
        return SwitchState(
            here.on or bool(flag.trap(here)),
            flag.share(here),
            sticky=sticky,
            revision=str(here.version),
            shown=flag.shown(here),
        )

    def dry_run(self, feature: str) -> str:
        """Say what a kill would send.

        Raises:
            SwitchError: a kill would fail: as for `read`, or because being off does not take the feature from users,
                the token may not turn it off, or a person would have to approve it.
        """
        flag, here = self._api.find(feature)
        where, environment = self._api.flag_url(feature), self._of.environment
        _check(where, flag, here)
        if here.forbidden:
            raise SwitchError(
                f"{where}: the token may read the flag, and not turn it off; {self._api.fix()}", permanent=True
            )
        if self._of.approval != "bypass" and self._api.settings().gate(flag):
            raise SwitchError(
                f"{where}: {environment} wants this approved: a kill would only ask for it; allow the token's role "
                "bypassRequiredApproval, and say so with `approval: bypass`",
                permanent=True,
            )
        would = f"PATCH {where}: {OFF['kind']} in {environment}"
        return would if here.on else f"{environment} is off already; nothing would be sent (if on: {would})"

    def kill(self, feature: str, reason: str) -> None:
        """Turn the flag off in the environment; nothing is sent where it is off.

        Args:
            feature: key of the flag.
            reason: told LaunchDarkly as the comment of the change, cut to `api.LONGEST`.

        Raises:
            SwitchError: it was not turned off, or nobody said that it was; where a person has to approve it, with the
                request's address.
        """
        flag, here = self._api.find(feature)
        _check(self._api.flag_url(feature), flag, here)
        gate = self._api.turn_off(feature, reason) if here.on else ""
        if gate:
            raise self._unapproved(feature, reason, here, gate)

    def _unapproved(self, feature: str, reason: str, here: Environment, gate: str) -> SwitchError:
        """Ask for an approval, unless that was done already, and say that a person has to give it."""
        where = f"{self._api.flag_url(feature)} in {self._of.environment}: a kill needs an approval ({gate})"
        try:
            waiting = self._api.waiting(feature)
            request = waiting or self._api.request(feature, reason)
        except SwitchError as error:
            problem = f"{where}, and it could not be asked for: {error}"
            return SwitchError(problem, retry_after=error.retry_after, permanent=error.permanent)
        page = f"{self._of.url}{here.site.href}" if here.site.href.startswith("/") else self._of.url
        outside = request.elsewhere.url if request.elsewhere else None
        return SwitchError(
            f"{where}; the request {request.id} {'was there already' if waiting else 'was made'}, and a person has to "
            f"{'apply it: it is approved' if request.review == 'approved' else 'approve it, and apply it'}: "
            f"{outside or page}",
            permanent=True,
        )


def _check(where: str, flag: Flag, here: Environment) -> None:
    trap = flag.trap(here)
    if trap:
        raise SwitchError(f"{where}: a kill would not help: {trap}", permanent=True)

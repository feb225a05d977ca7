"""Can users be taken off without redeploying, and by whom; and is there a feature that turning off would change."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.model import Mode, Watch
from watcher.preflight.turning import Turning
from watcher.report.preflight import Line


def rollback(
    watch: Watch, turning: Turning | None, key: str, uncleared: str | None, backtest: str, allowed: bool
) -> Iterator[Line]:
    """Check that the switch can be reached with these credentials, and say what it would do, and who may do it.

    Args:
        watch: mode, and whether the release is reversible.
        turning: what the switch says; None where there is none.
        key: of the entry in watcher.yaml, for people.
        uncleared: why the service may not be armed as it is (see `clearance`); None where nothing stands against it.
        backtest: the command that has to come before arming; empty where none has to.
        allowed: whether watcher.yaml names it among what may be turned off.
    """
    if turning is None:
        yield Line(
            "rollback",
            "fail",
            "no kill switch: users can only be taken off by redeploying",
            f"name one in {key}, such as `kill: {{yaml_flags: config/feature-flags.yaml}}`",
        )
        return
    if turning.unreadable or turning.stuck:
        said = "the kill switch cannot be read" if turning.unreadable else "turning it off would fail"
        fix = "repair that, or the settings of `kill`" if turning.unreadable else "repair that"
        problem = turning.unreadable or turning.stuck
        yield Line(
            "rollback", "fail", f"{said}: {problem}", f"{fix}, before anybody sees the release; then run this again"
        )
    else:
        yield Line("rollback", "pass", f"turning it off: {turning.dry_run}")
    if not watch.release.reversible:
        yield Line(
            "rollback",
            "warn",
            "the release is marked as not reversible: turning it off is only recommended, never done",
            "have somebody at hand who knows what becomes of what it has written",
        )
    yield from _armed(watch, uncleared, backtest, allowed)


def _armed(watch: Watch, uncleared: str | None, backtest: str, allowed: bool) -> Iterator[Line]:
    if watch.mode is not Mode.ARMED:
        does = "tells, and does nothing" if watch.mode is Mode.OBSERVE else "recommends, and does nothing"
        first = f"run `{backtest}`, then " if backtest else ""
        yield Line(
            "rollback",
            "warn",
            f"mode is {watch.mode.value}: watcher {does}; somebody has to turn it off by hand",
            f"have somebody at hand; for watcher to do it, {first}set mode: armed",
        )
    elif uncleared is not None:
        said, _, fix = uncleared.partition("; ")
        yield Line("rollback", "fail", said, fix)
    elif not allowed:
        said = f"may_turn_off in watcher.yaml does not name {watch.release.feature}: watcher would not turn it off"
        yield Line("rollback", "fail", said, f"add this line to may_turn_off: - {watch.target}")


def disable(watch: Watch, turning: Turning | None, exposed: bool) -> Iterator[Line]:
    """Check that the switch knows the feature, and that turning it off would change something, now or once it is on.

    Args:
        watch: names the feature.
        turning: what the switch says; None where there is none.
        exposed: whether a treatment had traffic in the last block.
    """
    feature = watch.release.feature
    if turning is None or turning.state is None:
        why = "no kill switch is configured" if turning is None else "the kill switch cannot be read"
        fix = "name a kill switch in watcher.yaml" if turning is None else "make the kill switch readable"
        yield Line("disable", "fail", f"{why}: nothing is known that would turn {feature} off", fix)
        return
    shown = f" ({turning.state.shown})" if turning.state.shown else ""
    if turning.state.on and turning.stuck:
        fix = "repair what stands against turning it off"
        yield Line("disable", "fail", f"{feature} is on{shown}, and cannot be turned off", fix)
    elif turning.state.on:
        yield Line("disable", "pass", f"{feature} is on{shown}, and turning it off changes that")
    elif exposed:
        yield Line(
            "disable",
            "fail",
            f"the switch says that {feature} is off{shown}, and yet the treatment has traffic: is it another switch?",
            "name what users get it by in `kill`; if it was turned off a moment ago, run this again",
        )
    else:
        yield Line("disable", "pass", f"{feature} is off{shown}; once it is on, the same switch turns it off")

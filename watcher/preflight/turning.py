"""What the kill switch of a release says, read once for every check that needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from watcher.errors import SwitchError
from watcher.model import SwitchState, Watch
from watcher.switches import Switch


@dataclass(frozen=True)
class Turning:
    """What the switch reads (None: it could not be read), and what turning off would do.

    `unreadable` says why it could not be read, `stuck` why turning off would fail; empty where it could, and would not.
    """

    state: SwitchState | None
    dry_run: str = ""
    unreadable: str = ""
    stuck: str = ""

    @property
    def share(self) -> float | None:
        """The share of the users that the switch gives the release now; None where nobody gets it, or nobody knows."""
        return self.state.share or None if self.state is not None and self.state.on else None


def read_switch(watch: Watch, switches: Callable[[str], Switch]) -> Turning | None:
    """Read the kill switch of a watch and ask what it would do; None where there is no switch.

    Raises:
        ConfigError: there is no such switch, or its settings are wrong.
    """
    if watch.switch is None:
        return None
    switch, feature = switches(watch.switch), watch.release.feature
    try:
        state = switch.read(feature)
    except SwitchError as error:
        return Turning(None, unreadable=str(error))
    try:
        return Turning(state, dry_run=switch.dry_run(feature))
    except SwitchError as error:
        return Turning(state, stuck=str(error))


def configured_share(watch: Watch, turning: Turning | None) -> float | None:
    """Return the share of users the release gets: by its notice, or by the switch where that is said to know."""
    told, read = watch.release.stages[-1].share or None, turning.share if turning is not None else None
    if watch.split is not None and watch.split.share == "switch" and read is not None:
        return read
    return told if told is not None else read

"""How it is said that users are taken off a release: a flag is turned off, traffic is taken away or switched back."""

from __future__ import annotations

from dataclasses import dataclass

from watcher.model import Release, Strategy


@dataclass(frozen=True)
class Wording:
    """What there is to do, what is being done, what is done, and that it was undone: beginnings and ends of sentences.

    `what` is released, and `again` is what people do once it is mended.
    """

    what: str
    do: str
    doing: str
    done: str
    undone: str
    again: str


def wording(release: Release) -> Wording:
    """Return the words for a release.

    >>> from watcher.model import Stage
    >>> shop = ("shop", "production", "shop", "1.2")
    >>> wording(Release(*shop, Strategy.CANARY, (Stage(0.0),))).doing
    'Taking all traffic from shop 1.2'
    >>> wording(Release(*shop, Strategy.BLUE_GREEN, (Stage(0.0),), previous="blue")).doing
    'Switching shop back to blue'
    """
    what, mended = release.feature, "a new watch starts"
    if release.strategy is Strategy.FLAG:
        return Wording(
            what=what,
            do=f"turn {what} off",
            doing=f"Turning {what} off",
            done=f"{what} is off",
            undone=f"{what} is on again",
            again=f"To re-open it, turn the flag on again: {mended}.",
        )
    if release.strategy is Strategy.CANARY:
        what = f"{release.feature} {release.version}{release.time}"
        return Wording(
            what=what,
            do=f"take all traffic from {what}",
            doing=f"Taking all traffic from {what}",
            done=f"{what} gets no traffic any more",
            undone=f"{what} gets traffic again",
            again=f"Deploy a mended version and give it traffic: {mended}.",
        )
    back = f"back to {release.previous}" if release.previous else "back"
    return Wording(
        what=what,
        do=f"switch {what} {back}",
        doing=f"Switching {what} {back}",
        done=f"{what} is switched {back}",
        undone=f"{what} was switched over again",
        again=f"Once it is mended, switch over again: {mended}.",
    )

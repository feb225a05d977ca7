"""Who follows a release sees it from before it is noticed until its end, and each change once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.test_journal import a_kill, a_look, a_watch
from watcher.following import Sight, follow
from watcher.journal import Journal
from watcher.model import Outcome, ReleaseVerdict

HEALTHY = ReleaseVerdict(Outcome.HEALTHY, "proven within the margin")


def seen(journal: Journal, name: str, *meanwhile: Callable[[], object]) -> list[Sight]:
    """Return what is seen while one thing after another happens, and then nothing more."""
    steps = iter(meanwhile)

    def rest() -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    return list(follow(journal, name, rest))


def test_a_release_is_followed_from_before_it_is_noticed_until_its_watch_is_over(tmp_path: Path) -> None:
    watch = a_watch()
    release = watch.release.id
    with Journal.open(f"sqlite:///{tmp_path}/journal.db") as journal:
        found = seen(
            journal,
            "new-checkout",
            lambda: None,
            lambda: journal.add_release(watch, 10.0, "http"),
            lambda: journal.record_look(a_look(700.0)),
            lambda: None,
            lambda: journal.record_look(a_look(760.0, actions=(a_kill(),))),
            lambda: journal.record_look(a_look(820.0, verdict=HEALTHY)),
            lambda: journal.end_release(release, "ended", "horizon", 900.0),
            lambda: journal.record_look(a_look(999.0)),
        )
        again = seen(journal, release)
    assert [each.watched is not None for each in found] == [False, *5 * [True]]
    assert [None if each.look is None else each.look.at for each in found] == [None, None, 700.0, 760.0, 820.0, 820.0]
    assert [each.decided for each in found] == [False, False, False, False, True, True]
    assert [each.over for each in found] == [*5 * [False], True]
    assert [each.what for each in found[3].done] == ["release noticed", "kill intended"]
    assert again == [found[-1]]


def test_a_name_is_of_the_newest_that_is_being_watched_or_of_the_next_and_an_id_of_one_that_ended(
    tmp_path: Path,
) -> None:
    first, second, third = (a_watch(version) for version in ("1", "2", "3"))
    second = replace(second, release=replace(second.release, stages=(replace(second.release.stages[0], at=700.0),)))
    names = ("new-checkout", "shop/new-checkout", "shop/production/new-checkout")
    with Journal.open(f"sqlite:///{tmp_path}/journal.db") as journal:
        journal.add_release(second, 1.0, "http")
        journal.add_release(first, 2.0, "http")
        for name in names:
            assert [each.watched and each.watched.watch for each in seen(journal, name)] == [second]
        for watch in (first, second):
            journal.end_release(watch.release.id, "ended", "horizon", 900.0)
        assert seen(journal, "checkout") == [Sight()]
        for name in names:
            assert seen(journal, name) == [Sight()]
        (ended,) = seen(journal, first.release.id)
        assert (ended.over, ended.watched and ended.watched.watch) == (True, first)
        _, begun = seen(journal, names[0], lambda: journal.add_release(third, 3.0, "http"))
        assert begun.watched is not None
        assert begun.watched.watch == third

"""One sick unit is told from a bad release."""

from __future__ import annotations

import math

import numpy as np

from watcher.evidence.suspects import left


def since(baseline: tuple[float, float], *treatment: tuple[float, float]):
    return np.array([[[events, total, 0, 0] for events, total in (baseline, *treatment)]], float)


def test_a_regression_shared_by_all_units_stands_without_any_of_them():
    rng = np.random.default_rng(1)
    for _ in range(50):
        each = [(float(x), 2000.0) for x in rng.poisson(60.0, 4)]
        without = left(since((120.0, 8000.0), *each), 1.0, 1)[0]
        assert (without >= math.log(100) / 2).all()


def test_a_regression_of_one_unit_falls_without_it_and_only_without_it():
    without = left(since((80.0, 8000.0), (20.0, 2000.0), (200.0, 2000.0), (20.0, 2000.0)), 1.0, 1)[0]
    assert without[1] < 0.5
    assert (without[[0, 2]] > math.log(100) / 2).all()


def test_dispersion_weakens_what_is_left():
    cells = since((80.0, 8000.0), (60.0, 2000.0), (60.0, 2000.0))
    assert np.allclose(left(cells, 4.0, 1) * 4, left(cells, 1.0, 1))


def test_harm_of_the_other_direction_leaves_nothing_and_lower_is_worse_where_it_is():
    cells = since((7200.0, 8000.0), (1700.0, 2000.0), (1700.0, 2000.0))
    assert (left(cells, 1.0, 1) == 0).all()
    assert (left(cells, 1.0, -1) > math.log(100)).all()


def test_slower_requests_count_where_few_are_over_the_objective():
    n, mean, square = 5000.0, -2.0, 4.5
    rows = [[3, n, mean * n, square * n], [1, n, (mean + 0.1) * n, square * n], [1, n, (mean + 0.1) * n, square * n]]
    without = left(np.array([rows]), 1.0, 1)[0]
    assert (without > math.log(100)).all()


def test_a_unit_without_company_leaves_nothing_and_no_numbers_are_lost():
    assert left(since((10.0, 1000.0), (50.0, 1000.0)), 1.0, 1).tolist() == [[0.0]]
    assert np.isfinite(left(since((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), 1.0, 1)).all()

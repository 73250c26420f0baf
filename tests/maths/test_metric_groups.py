"""Groups of measured videos beside each other: verdicts, errors and intervals as scipy's Welch test has them."""

import math
import statistics

import numpy
import pytest
from longtake.samplers.metrics.compare import ALIKE, BETTER, OTHER, UNKNOWN, WORSE, Cell, cell, compared, student
from scipy import stats

NAN = math.nan


def verdicts(*groups, better=1):
    """Of one metric, by group."""
    (cells,) = compared([[{"m": value} for value in group] for group in groups], {"m": better}).values()
    return [one.verdict for one in cells]


def pairs(count, low=2, high=12, seed=0):
    """Groups of normal numbers, of other sizes, means and spreads."""
    draw = numpy.random.default_rng(seed)
    for _ in range(count):
        sizes, spread = draw.integers(low, high, 2), 10 ** draw.uniform(-1, 1, 2)
        apart = draw.uniform(0, 4) * math.hypot(*(spread / sizes**0.5))
        yield [(draw.normal(size=n) * s + m).tolist() for n, s, m in zip(sizes, spread, (0, apart), strict=True)]


@pytest.mark.parametrize(("low", "high", "rounded_down"), [(2, 12, 40), (40, 200, 3)])
def test_verdicts_are_those_of_welchs_test_but_for_degrees_of_freedom_rounded_down(low, high, rounded_down):
    """The table has whole degrees of freedom: the next lower one asks more of a difference, never less."""
    said, others = 0, 0
    for first, other in pairs(1500, low, high):
        found = stats.ttest_ind(other, first, equal_var=False)
        ours = verdicts(first, other)[1]
        freedom = found.df if found.df > 31 else math.floor(found.df)
        assert (ours != ALIKE) == (abs(found.statistic) > stats.t.ppf(0.975, freedom)), (first, other)
        if (ours != ALIKE) != (found.pvalue < 0.05):
            others += 1
            assert ours == ALIKE and found.df < 31 and not found.df.is_integer()
        else:
            said += ours != ALIKE
            assert ours == (ALIKE if found.pvalue >= 0.05 else BETTER if found.statistic > 0 else WORSE)
    assert 400 < said < 1200 and others < rounded_down


def test_chance_makes_no_more_differences_than_it_says():
    draw = numpy.random.default_rng(1)
    said = [verdicts(*draw.normal(size=(2, 5)).tolist())[1] for _ in range(3000)]
    assert 0.02 < sum(one != ALIKE for one in said) / 3000 < 0.06


def test_student_is_the_next_lower_whole_numbers_and_a_series_beyond_30():
    for freedom in numpy.arange(1, 30.99, 0.25):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, math.floor(freedom)), abs=6e-4)
    for freedom in (31, 31.5, 40, 60, 100, 1e3, 1e6, 1e300, math.inf):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=2e-4)
    assert student(0.5) == student(1) > student(2) > student(29) > student(30) > student(31) > student(1e9)


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.1, 0.2, 0.25, 0.4], list(range(50))])
def test_the_mean_its_error_and_its_interval(values):
    found = cell(values)
    assert (found.count, found.mean) == (len(values), pytest.approx(statistics.fmean(values)))
    assert found.error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, found.mean, found.error)
    assert (high - low) / 2 == pytest.approx(found.reach, rel=5e-4)


@pytest.mark.parametrize(("better", "more", "less"), [(1, BETTER, WORSE), (-1, WORSE, BETTER), (0, OTHER, OTHER)])
def test_the_direction_says_which_difference_is_better(better, more, less):
    first, same, above, below = [1.0, 1.1, 0.9], [1.1, 0.9, 1.02], [2.0, 2.1, 1.9], [0.0, 0.1, -0.1]
    assert verdicts(first, same, above, below, better=better) == [ALIKE, ALIKE, more, less]


@pytest.mark.parametrize("size", range(2, 32))
@pytest.mark.parametrize("spread", [0.1, 1 / 3, 1.7, 1e-12])
def test_whole_degrees_of_freedom_stay_whole(size, spread):
    """A group beside one without any error has size - 1, two of one spread 2 (size - 1): not a hair less."""
    values = [spread * (i % 2 + i / 7) for i in range(size)]
    error = cell(values).error
    for other, freedom in (([0.0] * 3, size - 1), ([value + 5 * spread for value in values], None)):
        freedom = freedom or stats.ttest_ind(values, other, equal_var=False).df
        total = math.hypot(error, cell(other).error)
        for beyond in (0.995, 1.005):
            by = statistics.fmean(values) - statistics.fmean(other)
            moved = [value + by - beyond * stats.t.ppf(0.975, round(freedom, 6)) * total for value in other]
            assert (verdicts(values, moved)[1] != ALIKE) == (beyond > 1), (freedom, beyond)


def test_equal_values_have_no_error_and_any_difference_counts():
    assert verdicts([0.1] * 3, [0.1] * 4, [0.1 + 1e-9] * 2, [0.1, 0.1]) == [ALIKE, ALIKE, BETTER, ALIKE]
    assert cell([0.1] * 3).error == cell([0.1] * 3).reach == 0


def test_one_video_has_no_error_and_no_verdict():
    found = cell([0.5])
    assert (found.mean, found.count) == (0.5, 1) and math.isnan(found.error) and math.isnan(found.reach)
    assert verdicts([0.5], [0.7]) == [ALIKE, UNKNOWN] and verdicts([0.5, 0.6], [9.0]) == [ALIKE, UNKNOWN]
    assert verdicts([0.5], [0.7, 0.8, 0.9]) == [ALIKE, UNKNOWN] and verdicts([0.5], [0.5]) == [ALIKE, ALIKE]


def test_what_is_not_known_is_left_out():
    assert cell([NAN, 1.0, 3.0, NAN]) == cell([1.0, 3.0])
    none = cell([NAN, NAN])
    assert none.count == 0 and math.isnan(none.mean) and math.isnan(none.error) and math.isnan(none.reach)
    assert verdicts([1.0, 1.1], [NAN]) == verdicts([NAN], [1.0, 1.1]) == [ALIKE, ALIKE]
    assert verdicts([1.0, 1.1], []) == verdicts([], [1.0, 1.1]) == [ALIKE, ALIKE]
    assert verdicts([1.0, 1.1, 0.9, NAN], [5.0, 5.1, NAN, 4.9]) == [ALIKE, BETTER]


def test_metrics_of_some_videos_alone():
    groups = [[{"a": 1.0, "b": 2.0}, {"a": 3.0}], [{"b": 4.0, "c": NAN}]]
    found = compared(groups, {"c": 1, "b": 1, "a": -1, "d": 1})
    assert list(found) == ["b", "a"]  # c and d: no video has them
    assert [(one.mean, one.count) for one in found["b"]] == [(2.0, 1), (4.0, 1)]
    assert [one.count for one in found["a"]] == [2, 0] and math.isnan(found["a"][1].mean)
    assert compared([], {"a": 1}) == {} and compared([[], []], {"a": 1}) == {} and compared(groups, {}) == {}


def test_numbers_of_any_size():
    for size in (1e-300, 1e-150, 1e-90, 1e-45, 1e90):
        first, other = ([size * value for value in group] for group in ([1.0, 1.2, 0.9], [2.0, 2.1, 1.9]))
        assert verdicts(first, other) == [ALIKE, BETTER] and verdicts(other, first) == [ALIKE, WORSE]


def test_cells_are_judged_against_the_first_group_alone():
    found = compared([[{"m": v} for v in group] for group in ([1.0, 1.1], [9.0, 9.1], [9.05, 9.0])], {"m": 1})["m"]
    assert [one.verdict for one in found] == [ALIKE, BETTER, BETTER]
    assert found[0] == Cell(pytest.approx(1.05), pytest.approx(0.05), 2)

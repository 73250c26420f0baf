"""Handing out calls, and the simulation of a step: against counts by hand, and bounds that no plan can beat."""

import itertools

import pytest
from longtake.samplers.workers import DEPTH, Link, Paces, next_worker, simulate

FAST = Link(float("inf"), 0.0, 0.0, 0.0)


@pytest.mark.parametrize("calls, workers", itertools.product([1, 5, 16, 33], [1, 2, 4, 7]))
def test_equal_workers_without_a_network_need_whole_rounds(calls, workers):
    step = simulate([1.0] * calls, [2.0] * workers, FAST)
    assert step.wall == pytest.approx(-(-calls // workers) * 2.0) and sum(step.counts) == calls


@pytest.mark.parametrize("calls, workers", [(1, 3), (5, 2), (9, 4)])
def test_what_leads_is_computed_by_everyone(calls, workers):
    step = simulate([1.0] * calls, [1.0] * workers, FAST, leads=True)
    assert step.wall == pytest.approx(1 + -(-(calls - 1) // workers)) and sum(step.counts) == calls


def test_a_slow_worker_gets_fewer_and_none_at_the_end():
    step = simulate([1.0] * 30, [1.0, 1.0, 4.0], FAST)
    assert step.counts[2] < step.counts[0] / 2 and step.wall <= 15  # as quick as without it
    assert simulate([1.0] * 2, [1.0, 10.0], FAST).counts == (2, 0)  # the second call waits for the quick one


@pytest.mark.parametrize("costs", [[1.0] * 40, [3.0, 1.0] * 12])
@pytest.mark.parametrize("paces", [[1.0] * 8, [1.0, 2.0, 0.5]])
def test_no_step_is_quicker_than_its_work_or_its_bytes(costs, paces):
    link = Link(100.0, 0.01, 5.0, 20.0)
    wall = simulate(costs, paces, link).wall
    assert wall >= sum(costs) / sum(1 / pace for pace in paces)
    assert wall >= sum(costs) * max(link.sent, link.received) / link.rate
    assert wall <= simulate(costs, paces, Link(10.0, 0.01, 5.0, 20.0)).wall


def test_one_worker_hides_the_network_behind_its_work():
    link = Link(10.0, 0.1, 2.0, 3.0)  # 0.2 s there, 0.3 s back, 0.1 s of delay each way
    assert simulate([1.0] * 10, [1.0], link).wall == pytest.approx(0.2 + 0.1 + 10 + 0.3 + 0.1)


def test_the_next_call_goes_to_who_has_it_done_first():
    assert next_worker([0.0, 0.0], [0, 0], [2.0, 1.0], 1.0) == 1
    assert next_worker([0.0, 0.5], [0, 1], [2.0, 1.0], 1.0) == 1  # done after 1.5 s, not 2
    assert next_worker([0.0, 1.5], [0, 1], [2.0, 1.0], 1.0) == 0
    assert next_worker([9.0, 0.9], [0, DEPTH], [2.0, 1.0], 1.0) is None  # it waits for the quick one


def test_paces_are_measured_and_one_not_measured_is_as_the_others():
    paces = Paces()
    for worker in "ab":
        paces.note(worker, 1.0, 60.0)  # the model is loaded
    assert paces.of("a") == 1.0
    paces.note("a", 2.0, 6.0)
    paces.note("b", 1.0, 1.0)
    assert (paces.of("a"), paces.of("b"), paces.of("c")) == (3.0, 1.0, 2.0)
    paces.note("a", 1.0, 1.0)
    assert 1.0 < paces.of("a") < 3.0


def test_a_worker_that_was_slow_once_is_tried_again():
    paces = Paces()
    for worker, seconds in (("a", 1.0), ("b", 1.0), ("a", 1.0), ("b", 9.0)):
        paces.note(worker, 1.0, seconds)
    chosen = []
    for _ in range(4):
        paces.relax()
        waiting = [2 * paces.of("a"), 0.0]  # all that "a" may have
        chosen.append(next_worker(waiting, [DEPTH, 0], [paces.of("a"), paces.of("b")], 1.0))
        paces.note("a", 1.0, 1.0)
    assert chosen == [None, None, 1, 1]

"""The bookkeeping of a grid, without running anything."""

from __future__ import annotations

import random

import pytest

from benchmarks.runner.plan import Job, Plan


def job(key: str, *waits_for: str) -> Job:
    return Job(key, {}, waits_for=waits_for)


def drain(plan: Plan) -> list[str]:
    """All jobs that are ready now."""
    keys = []
    while (ready := plan.next_ready()) is not None:
        keys.append(ready.key)
    return keys


def test_prerequisites_come_first_and_each_job_is_handed_out_once() -> None:
    plan = Plan([job("student", "audio", "visual"), job("audio"), job("visual"), job("alone")])
    assert drain(plan) == ["audio", "visual", "alone"]
    plan.ended("audio", done=True)
    assert drain(plan) == []
    plan.ended("visual", done=True)
    assert drain(plan) == ["student"]
    assert not plan.finished
    for key in ("student", "alone"):
        plan.ended(key, done=True)
    assert plan.finished


def test_what_is_recorded_already_is_not_carried_out() -> None:
    plan = Plan([job("student", "teacher"), job("teacher")], done={"teacher"})
    assert drain(plan) == ["student"]


def test_a_failure_blocks_what_builds_on_it_and_what_builds_on_that() -> None:
    plan = Plan([job("a"), job("b", "a"), job("c", "b"), job("d")])
    assert drain(plan) == ["a", "d"]
    plan.ended("a", done=False)
    blocked = plan.next_blocked()
    assert blocked is not None and (blocked[0].key, blocked[1]) == ("b", "a")
    assert plan.next_blocked() is None
    plan.ended("b", done=False)
    blocked = plan.next_blocked()
    assert blocked is not None and (blocked[0].key, blocked[1]) == ("c", "b")
    plan.ended("c", done=False)
    plan.ended("d", done=True)
    assert plan.finished


def test_two_failed_prerequisites_block_a_job_once() -> None:
    plan = Plan([job("a"), job("b"), job("c", "a", "b")])
    drain(plan)
    plan.ended("a", done=False)
    plan.ended("b", done=False)
    assert plan.next_blocked() is not None
    assert plan.next_blocked() is None


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([job("a", "nowhere")], "not in the plan: nowhere"),
        ([job("a", "b"), job("b", "a")], "circle: a, b"),
        ([job("a", "a")], "circle: a"),
    ],
)
def test_impossible_plans_are_refused(jobs: list[Job], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(jobs)


def test_every_job_of_a_large_plan_ends_exactly_once_whatever_fails() -> None:
    draw = random.Random(0)
    jobs = [job(str(i), *{str(draw.randrange(i)) for _ in range(draw.randrange(3)) if i}) for i in range(20_000)]
    plan, running, ended = Plan(jobs), [], []
    while not plan.finished:
        while (blocked := plan.next_blocked()) is not None:
            ended.append(blocked[0].key)
            plan.ended(blocked[0].key, done=False)
        running += drain(plan)
        if running:
            key = running.pop(draw.randrange(len(running)))
            ended.append(key)
            plan.ended(key, done=draw.random() > 0.01)
    assert sorted(ended) == sorted(j.key for j in jobs)

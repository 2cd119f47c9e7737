from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.conduct import ConductReference, make_reference
from contract.records import AnsweredBy
from recorder.dataset.quarantine import read_quarantines
from recorder.dataset.store import DatasetStore
from recorder.hacking import Caught, Check, HackingChecks, quarantine_in, rank_correlation
from recorder.traces import Trace

STEPS = 50


def reference() -> ConductReference:
    """Forty episodes: rewards 0 to 1; those that pass the audit, the longer half, return more."""
    rng = np.random.default_rng(3)
    lengths = np.repeat([STEPS, 2 * STEPS], 20)
    num_steps = int(lengths.sum())
    made = make_reference(
        rng.uniform(0, 1, num_steps),
        rng.integers(4, size=num_steps),
        rng.integers(1000, size=num_steps),
        lengths,
        np.repeat([0.0, 1.0], 20),
    )
    assert made is not None
    return made


def trace(**changes: Any) -> Trace:
    rng = np.random.default_rng(4)
    fields: dict[str, Any] = {
        "policy": "cartpole",
        "episode_id": "episode-1",
        "answered_by": (AnsweredBy(3, "stable", "model", None, "cartpole@3"),),
        "ending": "terminated",
        "is_complete": True,
        "started_at": 100.0,
        "ended_at": 150.0,
        "rewards": rng.uniform(0, 1, 2 * STEPS),
        "actions": rng.integers(4, size=2 * STEPS),
        "cells": rng.integers(1000, size=2 * STEPS),
        "chosen_q": np.full(2 * STEPS, 1.0),
        "best_q": np.full(2 * STEPS, 1.0),
        "last_observation": None,
    }
    return Trace(**(fields | changes))


class Judged:
    def __init__(self, audit: float | None = 1.0) -> None:
        self.quarantined: list[Caught] = []
        self.checks = HackingChecks(
            lambda version: reference() if version == 3 else None,
            self.quarantined.append,
            lambda trace: audit,
        )


def spiked(rewards: Any) -> Any:
    return np.where(np.arange(len(rewards)) == 17, 5.0, rewards)


def test_an_honest_episode_is_left_alone() -> None:
    judged = Judged()
    assert judged.checks.add(trace()) is None
    assert judged.quarantined == []
    assert judged.checks.num_judged == 1


def test_a_quarantine_names_the_episode_and_is_the_same_when_it_is_told_again(
    tmp_path: Path,
) -> None:
    store = DatasetStore(tmp_path)
    caught = Caught("cartpole", "episode-1", 100.0, 150.0, ("loop",))
    for _ in range(2):
        quarantine_in(store)(caught)
    entries = read_quarantines(store, "cartpole")
    assert [entry.episode_id for entry in entries] == ["episode-1"]
    assert entries[0].covers("episode-1", 100.0, 150.0)
    assert not entries[0].covers("episode-2", 100.0, 150.0)
    assert entries[0].why == "episode episode-1: loop beyond training's"


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"rewards": spiked(trace().rewards)}, "reward_range"),
        ({"actions": np.resize([0, 1], 100), "cells": np.resize([5, 6], 100)}, "loop"),
        ({"rewards": np.full(100, 0.5)}, "reward_distribution"),
        ({"rewards": np.random.default_rng(5).uniform(0.9, 1, 100)}, "unearned_length"),
    ],
)
def test_an_episode_that_lives_on_a_loophole_is_caught_and_quarantined(
    changes: dict[str, Any], check: Check
) -> None:
    judged = Judged()
    caught = judged.checks.add(trace(**changes))
    assert caught is not None
    assert check in caught.checks
    assert judged.quarantined == [caught]
    assert "episode-1" in caught.why
    assert judged.checks.counts[check] == 1


def test_a_return_that_fails_the_audit_is_not_earned() -> None:
    # Training's episodes that failed it returned about 25; this one returns 50.
    caught = Judged(audit=0.0).checks.add(trace())
    assert caught is not None
    assert caught.checks == ("unearned_audit",)


def test_a_strange_episode_that_earns_little_is_a_failure_and_no_hack() -> None:
    assert Judged().checks.add(trace(rewards=np.full(100, 0.01))) is None


def test_a_part_of_an_episode_is_not_judged() -> None:
    assert Judged().checks.add(trace(rewards=spiked(trace().rewards), is_complete=False)) is None


def test_a_version_without_a_reference_is_not_armed() -> None:
    unknown = (AnsweredBy(4, "stable", "model", None, "cartpole@4"),)
    judged = Judged()
    assert judged.checks.add(trace(rewards=np.full(100, 0.5), answered_by=unknown)) is None
    assert judged.checks.num_judged == 0


def test_returns_are_held_against_the_audit_where_nothing_else_is_armed() -> None:
    unknown = (AnsweredBy(4, "stable", "model", None, "cartpole@4"),)
    levels = iter(range(100))
    checks = HackingChecks(lambda version: None, lambda caught: None, lambda _: next(levels) / 100)
    for number in range(100):
        checks.add(trace(rewards=np.full(10, float(number)), answered_by=unknown))
    assert checks.audit_correlation == pytest.approx(1.0)


def test_the_correlation_with_the_audit_falls_where_returns_rise_without_it() -> None:
    rng = np.random.default_rng(6)
    audits = iter([*rng.uniform(0, 1, 200), *rng.uniform(0, 1, 500)])
    seen: list[float] = []

    def audit(_: Trace) -> float:
        seen.append(next(audits))
        return seen[-1]

    checks = HackingChecks(lambda version: reference(), lambda caught: None, audit)
    assert checks.audit_correlation is None
    for number in range(700):
        # At first the return follows the audit, later it does not.
        paid = trace(rewards=np.zeros(100))
        checks.add(paid)
        level = seen[-1] if number < 200 else rng.uniform(0, 1)
        checks._pairs[-1] = (level, seen[-1])
        if number == 199:
            assert checks.audit_correlation == pytest.approx(1.0)
    assert checks.audit_correlation == pytest.approx(0.0, abs=0.15)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 9], [10, 20, 30, 31], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 1, 1], [1, 2, 3], 0),
    ],
)
def test_rank_correlation_knows_order_alone(
    first: list[float], second: list[float], expected: float
) -> None:
    found = rank_correlation(np.array(first, float), np.array(second, float))
    assert found == pytest.approx(expected)

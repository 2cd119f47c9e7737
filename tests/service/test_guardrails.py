import numpy as np
import pytest

from service.rollout.guardrails import (
    TOLERANCES,
    Call,
    DeadlineGuardrail,
    Fired,
    Guardrail,
    Guardrails,
    Rows,
)


def rows_until_fired(guardrails: Guardrails, found: Rows, most: int = 10_000) -> int | None:
    for number in range(1, most + 1):
        if guardrails.observe_canary(found) is not None:
            return number
    return None


def warmed(stable_rows: int, **failed: int) -> Guardrails:
    guardrails = Guardrails("r")
    guardrails.observe_stable(Rows(stable_rows, **failed))
    return guardrails


NAN = Rows(1, fallback=1, nonfinite=1)


@pytest.mark.parametrize("stable_rows_each", [0.5, 1, 9])
@pytest.mark.parametrize("good_rows", [0, 300, 5000, 50_000])
def test_a_canary_of_nan_is_off_within_five_rows_however_long_it_was_good(
    good_rows: int, stable_rows_each: float
) -> None:
    guardrails = Guardrails("r")
    for _ in range(good_rows // 100):
        guardrails.observe_stable(Rows(int(100 * stable_rows_each)))
        assert guardrails.observe_canary(Rows(100)) is None
    found = rows_until_fired(guardrails, NAN)
    assert found is not None
    assert 3 <= found <= 5


def test_one_row_of_nan_is_forgiven() -> None:
    guardrails = warmed(10_000)
    for _ in range(20):
        assert guardrails.observe_canary(NAN) is None
        assert guardrails.observe_canary(Rows(2000)) is None


@pytest.mark.parametrize("name", sorted(set(TOLERANCES) - {"deadline"}))
def test_each_way_to_fail_has_its_guardrail(name: str) -> None:
    guardrails = Guardrails("r")
    for _ in range(10_000):
        guardrails.observe_stable(Rows(1))
    fired = None
    for _ in range(10):
        fired = fired or guardrails.observe_canary(Rows(1)._replace(**{name: 1}))
    assert isinstance(fired, Fired)
    assert fired.guardrail == name
    assert f"guardrail {name}: " in fired.sentence
    assert "0 of stable's 10000" in fired.sentence


def test_a_canary_that_fails_no_oftener_than_stable_stays() -> None:
    # A twentieth of the rows fail on both sides: one client sends observations that are no good.
    assert rows_until_fired(warmed(10_000, nonfinite=500), Rows(20, nonfinite=1), 500) is None
    assert rows_until_fired(warmed(10_000), Rows(20, nonfinite=1), 500) is not None


def test_without_a_row_of_stable_s_nothing_but_nan_is_bet_against() -> None:
    assert rows_until_fired(Guardrails("r"), Rows(1, q_bound=1, fallback=1), 100) is None
    assert rows_until_fired(Guardrails("r"), NAN) == 3


@pytest.mark.parametrize("name", ["error", "fallback"])
def test_a_call_that_fails_is_one_failure_whatever_its_rows(name: str) -> None:
    guardrail = Guardrail(name)
    for _ in range(5000):
        guardrail.observe_stable(64, 0)
    assert guardrail.observe_canary(64, 64) is None
    for _ in range(100):
        assert guardrail.observe_canary(64, 0) is None
    assert guardrail.observe_canary(64, 64) is None
    fired = [guardrail.observe_canary(64, 64) for _ in range(5)]
    assert any(fired)


def test_rows_of_nan_in_one_batch_count_one_by_one() -> None:
    whole, single = Guardrail("nonfinite"), Guardrail("nonfinite")
    for each in (whole, single):
        each.observe_stable(1000, 10)
    fired = whole.observe_canary(64, 40)
    ones = [single.observe_canary(1, int(number < 40)) for number in range(64)]
    assert fired is not None
    assert any(ones)


def test_a_guardrail_seldom_fires_within_its_tolerance_however_often_one_looks() -> None:
    generator = np.random.default_rng(2)
    fired = 0
    for _ in range(200):
        guardrail = Guardrail("q_bound")
        guardrail.observe_stable(20_000, 20)
        hits = generator.random((400, 5)) < 0.005
        fired += any(guardrail.observe_canary(5, int(each.sum())) is not None for each in hits)
    assert fired == 0


@pytest.mark.parametrize("good_rows", [0, 5000])
def test_a_rate_beyond_the_tolerance_is_found(good_rows: int) -> None:
    generator = np.random.default_rng(2)
    found = []
    for _ in range(50):
        guardrail = Guardrail("q_bound")
        guardrail.observe_stable(20_000, 20)
        for _ in range(good_rows // 50):
            guardrail.observe_canary(50, 0)
        hits = generator.random(3000) < 0.05
        found.append(
            next(
                (
                    number
                    for number, hit in enumerate(hits)
                    if guardrail.observe_canary(1, int(hit))
                ),
                None,
            )
        )
    rows = [each for each in found if each is not None]
    assert len(rows) == 50
    assert np.median(rows) < (200 if good_rows == 0 else 350)


FAST, SLOW = [Call("stable", False)], [Call("stable", True)]


def seconds_until_fired(guardrail: DeadlineGuardrail, calls: list[Call]) -> float | None:
    for tick in range(6000):
        if guardrail.observe(calls, 1000 + tick * 0.01) is not None:
            return tick * 0.01
    return None


def test_a_canary_whose_calls_all_take_too_long_is_off_within_seconds() -> None:
    calls = [Call("canary", True), Call("stable", False)]
    found = seconds_until_fired(DeadlineGuardrail(), calls)
    assert found is not None
    assert found < 6


def test_a_moment_in_which_the_machine_stands_still_condemns_no_canary() -> None:
    guardrail = DeadlineGuardrail()
    late = [Call("canary", True), Call("stable", True)]
    fine = [Call("canary", False), Call("stable", False)]
    now = 0.0
    for burst in range(50):
        for tick in range(100):
            now += 0.01
            # Thirty calls in a row, with never a quick one between them.
            assert guardrail.observe(late if tick < 30 else fine, now) is None, burst


def test_one_burst_of_late_calls_that_stable_had_no_part_in_is_forgiven() -> None:
    guardrail = DeadlineGuardrail()
    for tick in range(1000):
        assert guardrail.observe([Call("canary", False), *FAST], tick * 0.01) is None
    for tick in range(64):
        assert guardrail.observe([Call("canary", True)], 10 + tick * 0.001) is None
    for tick in range(1000):
        assert guardrail.observe([Call("canary", False), *FAST], 11 + tick * 0.01) is None


def test_without_a_call_of_stable_s_no_deadline_is_bet_on() -> None:
    assert seconds_until_fired(DeadlineGuardrail(), [Call("canary", True)]) is None


def test_while_stable_has_no_call_its_past_is_what_is_normal() -> None:
    slow, quick = DeadlineGuardrail(), DeadlineGuardrail()
    for tick in range(100):
        slow.observe(SLOW, tick * 0.01)
        quick.observe(FAST, tick * 0.01)
    assert seconds_until_fired(slow, [Call("canary", True)]) is None
    assert seconds_until_fired(quick, [Call("canary", True)]) is not None

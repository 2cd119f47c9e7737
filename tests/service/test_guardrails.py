import numpy as np
import pytest

from service.rollout.guardrails import TOLERANCES, Fired, Guardrail, Guardrails, Rows


def rows_until_fired(guardrails: Guardrails, found: Rows, most: int = 10_000) -> int | None:
    for number in range(1, most + 1):
        if guardrails.observe_canary(found) is not None:
            return number
    return None


def warmed(stable_rows: int, **failed: int) -> Guardrails:
    guardrails = Guardrails("r")
    guardrails.observe_stable(Rows(stable_rows, **failed))
    return guardrails


@pytest.mark.parametrize(("stable_rows", "most"), [(100_000, 3), (1000, 4), (100, 5)])
def test_a_canary_that_answers_nan_alone_is_off_within_five_rows(
    stable_rows: int, most: int
) -> None:
    found = rows_until_fired(warmed(stable_rows), Rows(1, fallback=1, nonfinite=1))
    assert found is not None
    assert found <= most


@pytest.mark.parametrize("name", sorted(TOLERANCES))
def test_each_way_to_fail_has_its_guardrail(name: str) -> None:
    guardrails = warmed(10_000)
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


def test_without_a_row_of_stable_s_nothing_is_bet() -> None:
    assert rows_until_fired(Guardrails("r"), Rows(1, nonfinite=1), 100) is None


def test_a_batch_counts_as_its_rows_one_by_one() -> None:
    whole, single = Guardrail("fallback"), Guardrail("fallback")
    for each in (whole, single):
        each.observe_stable(1000, 10)
    fired = whole.observe_canary(64, 40)
    ones = [single.observe_canary(1, int(number < 40)) for number in range(64)]
    assert fired is not None
    assert any(ones)


def test_a_guardrail_seldom_fires_within_its_tolerance_however_often_one_looks() -> None:
    generator = np.random.default_rng(2)
    fired = 0
    for _ in range(100):
        guardrail = Guardrail("fallback")
        guardrail.observe_stable(20_000, 20)
        hits = generator.random((400, 5)) < 0.005
        fired += any(guardrail.observe_canary(5, int(each.sum())) is not None for each in hits)
    assert fired == 0


def test_a_rate_beyond_the_tolerance_is_found() -> None:
    generator = np.random.default_rng(2)
    found = []
    for _ in range(50):
        guardrail = Guardrail("fallback")
        guardrail.observe_stable(20_000, 20)
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
    assert np.median(rows) < 200

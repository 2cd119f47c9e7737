from math import exp, inf, log

import numpy as np
import pytest

from contract.sequential import Wagers, log_mean_exp, log_share_evidence, rate_upper_bound


def test_a_wager_multiplies_its_money_by_one_plus_stake_times_payoff() -> None:
    wagers = Wagers((0.5, 1.0))
    wagers.bet(0.2)
    wagers.bet(-0.4)
    np.testing.assert_allclose(
        [exp(wealth) for wealth in wagers.log_wealth], [1.1 * 0.8, 1.2 * 0.6]
    )
    assert exp(wagers.log_evidence) == pytest.approx((0.88 + 0.72) / 2)


def test_a_wager_goes_on_from_the_wealth_it_is_given() -> None:
    whole, first = Wagers((0.1, 0.9)), Wagers((0.1, 0.9))
    first.bet(0.3)
    second = Wagers((0.1, 0.9), first.log_wealth)
    second.bet(-0.2)
    for payoff in (0.3, -0.2):
        whole.bet(payoff)
    assert second.log_wealth == whole.log_wealth


def test_the_mean_of_huge_wealth_does_not_overflow() -> None:
    assert log_mean_exp([2000.0, 2000.0 + log(3)]) == pytest.approx(2000 + log(2))


def test_share_evidence_grows_with_a_departure_and_not_with_agreement() -> None:
    assert log_share_evidence(1000, 9000, 0.1) < 0
    assert log_share_evidence(1300, 8700, 0.1) > log(2000)
    assert log_share_evidence(700, 9300, 0.1) > log(2000)
    assert log_share_evidence(0, 0, 0.1) == 0
    assert log_share_evidence(0, 10, 0.0) == 0
    assert log_share_evidence(1, 10, 0.0) == inf


def test_a_true_share_is_seldom_refuted_however_often_one_looks() -> None:
    generator = np.random.default_rng(5)
    refuted = 0
    for _ in range(100):
        hits = generator.random(300) < 0.1
        totals = hits.cumsum()
        refuted += any(
            log_share_evidence(int(total), number - int(total), 0.1) >= log(20)
            for number, total in enumerate(totals, 1)
        )
    assert refuted <= 5


def test_the_bound_on_a_rate_tightens_with_trials_and_holds_above_what_was_found() -> None:
    assert rate_upper_bound(0, 0, 0.001) == 1.0
    found = [rate_upper_bound(0, trials, 0.001) for trials in (10, 100, 1000, 100_000)]
    assert found == sorted(found, reverse=True)
    # About (log(1/alpha) + log(trials)/2) / trials where nothing was hit.
    assert found[2] == pytest.approx((log(1000) + log(1000) / 2 + 0.57) / 1000, rel=0.02)
    assert 0.05 < rate_upper_bound(500, 10_000, 0.001) < 0.065


def test_a_true_rate_stays_under_the_bound_at_all_times_at_once() -> None:
    generator = np.random.default_rng(8)
    broken = 0
    for _ in range(100):
        totals = (generator.random(200) < 0.05).cumsum()
        broken += any(
            rate_upper_bound(int(total), number, 0.05) < 0.05
            for number, total in enumerate(totals, 1)
        )
    assert broken <= 5

import numpy as np
import pytest

from contract.records import AnsweredBy
from service.inference.exploration import explore
from service.inference.fallback import Chosen

MODEL = AnsweredBy(1, "stable", "model", None, "p@1")
HEURISTIC = AnsweredBy(1, "stable", "heuristic", "non_finite", "heuristic/constant@0")


def chosen(rows: int, action: int = 2) -> Chosen:
    return Chosen(np.full(rows, action), np.ones(rows), [MODEL], None, None)


def test_actions_are_drawn_as_often_as_the_propensities_say() -> None:
    rows, masks = 200_000, np.tile([True, False, True, True], (200_000, 1))
    given = chosen(rows)
    explore(given, np.ones(rows, np.bool_), masks, 4, 0.3, np.random.default_rng(0))
    shares = np.bincount(given.actions, minlength=4) / rows
    # 0.3 over three legal actions, and 0.7 for the greedy one.
    np.testing.assert_allclose(shares, [0.1, 0.0, 0.8, 0.1], atol=0.005)
    for action, probability in ((0, 0.1), (2, 0.8), (3, 0.1)):
        np.testing.assert_allclose(given.propensities[given.actions == action], probability)


def test_rows_that_did_not_agree_are_left_alone() -> None:
    given, agreed = chosen(1000), np.arange(1000) % 2 == 0
    explore(given, agreed, None, 4, 1.0, np.random.default_rng(1))
    assert (given.actions[~agreed] == 2).all()
    assert (given.propensities[~agreed] == 1.0).all()
    assert set(given.actions[agreed]) == {0, 1, 2, 3}
    np.testing.assert_allclose(given.propensities[agreed], 0.25)


def test_a_heuristics_rows_are_left_alone() -> None:
    given = chosen(1000)
    given.answered_by, given.index = [MODEL, HEURISTIC], np.arange(1000) % 2
    explore(given, np.ones(1000, np.bool_), None, 4, 1.0, np.random.default_rng(2))
    assert (given.actions[1::2] == 2).all()
    assert (given.propensities[1::2] == 1.0).all()
    assert len(set(given.actions[::2])) == 4
    only = chosen(10)
    only.answered_by = [HEURISTIC]
    explore(only, np.ones(10, np.bool_), None, 4, 1.0, np.random.default_rng(3))
    assert (only.actions == 2).all()


def test_the_models_own_answer_is_not_written_over() -> None:
    given = chosen(100)
    said = given.actions
    explore(given, np.ones(100, np.bool_), None, 4, 1.0, np.random.default_rng(4))
    assert (said == 2).all()


@pytest.mark.parametrize("legal", range(4))
def test_where_one_action_is_legal_it_is_taken_for_certain(legal: int) -> None:
    masks = np.zeros((50, 4), np.bool_)
    masks[:, legal] = True
    given = chosen(50, legal)
    explore(given, np.ones(50, np.bool_), masks, 4, 0.5, np.random.default_rng(5))
    assert (given.actions == legal).all()
    np.testing.assert_allclose(given.propensities, 1.0)

import numpy as np
import numpy.typing as npt
import pytest

from contract.conduct import (
    ConductReference,
    highest_return,
    make_reference,
    observation_cells,
    signs_of,
)
from contract.drift_reference import make_columns

RNG = np.random.default_rng(1)
STEPS = 50


def made(audits: npt.NDArray[np.float64] | None = None) -> ConductReference:
    """Of 40 episodes of 50 steps: rewards 0 to 1, moves and cells at random."""
    rng = np.random.default_rng(2)
    num_steps = 40 * STEPS
    reference = make_reference(
        rng.uniform(0, 1, num_steps),
        rng.integers(4, size=num_steps),
        rng.integers(1000, size=num_steps),
        np.full(40, STEPS),
        audits,
    )
    assert reference is not None
    return reference


def test_limits_lie_a_tenth_beyond_all_that_training_did() -> None:
    reference = made()
    assert reference.highest_reward == pytest.approx(1.1, abs=0.01)
    # Random moves in random cells never repeat: one run of 47 is the commonest.
    assert reference.highest_loop_share == pytest.approx(1.1 / 47)


def test_a_loop_is_the_share_of_its_commonest_run_of_four() -> None:
    # Nine times round a circle of five: runs begin at each of 42 steps, nine at one place.
    around = np.resize([1, 2, 3, 0, 2], 45)
    signs = signs_of(np.zeros(45), around, np.resize([7, 8, 9, 5, 6], 45), made())
    assert signs.loop_share == pytest.approx(9 / 42)


def test_the_same_moves_in_other_places_are_no_loop() -> None:
    moves = np.ones(45, dtype=np.int64)
    assert signs_of(np.zeros(45), moves, np.arange(45), made()).loop_share == pytest.approx(1 / 42)


def test_an_episode_of_seven_steps_has_no_pattern() -> None:
    signs = signs_of(np.full(7, 9.0), np.ones(7, int), np.ones(7, int), made())
    assert (signs.loop_share, signs.reward_distance) == (0.0, 0.0)
    assert signs.largest_reward == 9.0


def test_a_reward_that_never_moves_is_far_from_one_that_does() -> None:
    reference = made()
    moves, cells = RNG.integers(4, size=STEPS), RNG.integers(1000, size=STEPS)
    as_ever = signs_of(RNG.uniform(0, 1, STEPS), moves, cells, reference)
    stuck = signs_of(np.full(STEPS, 0.5), moves, cells, reference)
    assert as_ever.reward_distance < reference.highest_reward_distance
    assert stuck.reward_distance > 3 * reference.highest_reward_distance


def test_what_an_audit_allows_is_what_training_returned_there() -> None:
    # Half the episodes fail the audit; all return about 25.
    reference = made(np.repeat([0.0, 1.0], 20))
    assert reference.returns_by_audit is not None
    failed = highest_return(reference.returns_by_audit, 0.0)
    passed = highest_return(reference.returns_by_audit, 1.0)
    assert failed != passed
    assert 25 < failed < 35


def test_too_few_episodes_make_no_reference() -> None:
    steps = np.zeros(19, dtype=np.int64)
    assert make_reference(np.zeros(19), steps, steps, np.ones(19, dtype=np.int64)) is None


def test_cells_of_vectors_are_terciles_of_every_column() -> None:
    columns = make_columns(RNG.standard_normal((2_000, 3)), np.full(20, 100))
    cells = observation_cells(
        np.array([[-2, 0, 2], [-1.5, 0.1, 1.5], [2, 0, -2], [-2, 2, 2]]), columns
    )
    assert cells[0] == cells[1]
    assert len({*cells.tolist()}) == 3


def test_cells_of_frames_see_the_newest_frame_of_a_stack() -> None:
    frames = RNG.integers(0, 255, size=(3, 4, 84, 84), dtype=np.uint8)
    frames[1, 3] = frames[0, 3]
    cells = observation_cells(frames, ())
    assert cells[0] == cells[1]
    assert cells[0] != cells[2]


def test_vectors_without_a_reference_lie_all_in_one_cell() -> None:
    assert {*observation_cells(RNG.standard_normal((5, 3)), ()).tolist()} == {0}

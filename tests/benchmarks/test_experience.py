from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experience.__main__ import summarise
from benchmarks.experience.atari import play
from benchmarks.experience.storing import read_back, store_game
from contract.transitions import Episode, Transition
from recorder.dataset.load import read_dataset
from recorder.dataset.store import DatasetStore


def test_games_are_played_as_episodes_whose_steps_follow_one_another() -> None:
    items = list(play("breakout", 1500, seed=1))
    transitions = [item for item in items if isinstance(item, Transition)]
    episodes = [item for item in items if isinstance(item, Episode)]
    assert len(transitions) >= 1500
    assert episodes
    for episode in episodes:
        own = [each for each in transitions if each.episode_id == episode.episode_id]
        assert [each.step for each in own] == list(range(len(episode.rewards)))
        assert [each.terminated for each in own] == [False] * (len(own) - 1) + [True]
        for one, following in pairwise(own):
            assert one.next_observation is not None
            np.testing.assert_array_equal(one.next_observation, following.observation)


@pytest.mark.slow
def test_what_is_measured_is_stored_and_read_back_whole(tmp_path: Path) -> None:
    stored = store_game("breakout", 1500, tmp_path, seed=1)
    result = read_back(stored, tmp_path, random_batches=2)
    assert result.in_order.transitions == result.transitions
    assert result.at_random.transitions == 2 * 256
    items = list(play("breakout", 1500, seed=1))
    ended = {item.episode_id for item in items if isinstance(item, Episode)}
    played = {
        (item.episode_id, item.step): item
        for item in items
        if isinstance(item, Transition) and item.episode_id in ended
    }
    assert result.transitions == len(played)
    for episode in read_dataset(DatasetStore(tmp_path), "breakout").episodes():
        for row, step in enumerate(episode.transitions.steps.tolist()):
            expected = played[episode.episode_id, step]
            np.testing.assert_array_equal(
                episode.transitions.observations[row], expected.observation
            )
            assert episode.transitions.actions[row] == expected.action
    figures = {figure.figure: figure for figure in summarise([result])}
    assert figures["breakout: transitions"].value == len(played)
    (size,) = [figure for name, figure in figures.items() if "on disk" in name]
    assert size.value == result.size_bytes / len(played) / 1000

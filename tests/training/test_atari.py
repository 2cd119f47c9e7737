from collections.abc import Iterator

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from contract.declaration import ObservationSpec
from contract.frames import FrameStack, Pixels, ScreenPreprocessing
from training.atari import AtariEnvironment
from training.atari_options import NEXT_LIFE, AtariOptions
from training.environment_name import make_environment
from training.environments import Environments, SeededEnvironment, describe_environment
from training.evaluate import play

# Breakout: fire, then stand still, and the ball is lost within 40 steps.
_FIRE, _RIGHT = 1, 2


def bare(game: str = "breakout", **changes: object) -> AtariEnvironment:
    return AtariEnvironment(
        game, AtariOptions.model_validate({"max_noops": 0, "life_loss": True} | changes)
    )


def screens_of(game_id: str, actions: list[int], skip: int) -> Iterator[Pixels]:
    """The last two raw RGB screens of each step, from the emulator's own environment."""
    environment = gymnasium.make(game_id, frameskip=1, repeat_action_probability=0.0)
    first, _ = environment.reset(seed=0)
    yield first[None]
    for action in actions:
        screens = [environment.step(action)[0] for _ in range(skip)]
        yield np.array(screens[-2:])


@pytest.mark.parametrize(("game", "game_id"), [("pong", "Pong"), ("breakout", "Breakout")])
@pytest.mark.parametrize("crop", [{}, {"crop_top": 34, "crop_bottom": 16}])
def test_raw_screens_become_at_serving_the_observations_of_training_byte_for_byte(
    game: str, game_id: str, crop: dict[str, int]
) -> None:
    gymnasium.register_envs(ale_py)
    actions = np.random.default_rng(2).integers(4, size=120).tolist()
    training = bare(game, life_loss=False, **crop)
    expected = [training.reset(seed=0)[0]] + [training.step(action)[0] for action in actions]

    preprocessing = ScreenPreprocessing(**crop)
    stack = FrameStack(ObservationSpec(shape=(4, 84, 84), dtype="uint8", frame_stack=4))
    served = [
        stack.push(preprocessing.frame(screens), step)
        for step, screens in enumerate(screens_of(f"ALE/{game_id}-v5", actions, skip=4))
    ]
    np.testing.assert_array_equal(served, expected)
    assert len(np.unique([frame.tobytes() for frame in expected])) > 100


def test_frames_are_those_of_the_emulators_own_vector_environment_within_one_grey() -> None:
    actions = np.random.default_rng(2).integers(6, size=100).tolist()
    vector = AtariVectorEnv("pong", 1, noop_max=0, use_fire_reset=False)
    vector.reset(seed=0)
    ours = bare("pong")
    ours.reset(seed=0)
    for action in actions:
        theirs = vector.step(np.array([action]))[0][0, -1].astype(int)
        assert np.abs(ours.step(action)[0][-1] - theirs).max() <= 1


def test_an_action_holds_for_four_screens_and_their_rewards_add_up() -> None:
    rom = ale_py.roms.get_rom_path("pong")
    assert rom is not None
    game = ale_py.ALEInterface()
    game.setFloat("repeat_action_probability", 0.0)
    game.loadROM(rom)
    by_screen = [game.act(ale_py.Action.NOOP) for _ in range(1200)]
    environment = bare("pong")
    environment.reset(seed=0)
    by_step = [environment.step(np.int64(0))[1] for _ in range(300)]
    assert by_step == np.array(by_screen).reshape(300, 4).sum(axis=1).tolist()
    assert sum(by_step) < -3


def test_the_brighter_of_the_last_two_screens_is_seen() -> None:
    dark, bright = np.zeros((210, 160), np.uint8), np.zeros((210, 160), np.uint8)
    dark[:105], bright[105:] = 90, 40
    frame = ScreenPreprocessing().frame(np.array([dark, bright]))
    assert frame[0, 0] == 90
    assert frame[83, 0] == 40


def test_a_lost_life_ends_what_is_learned_from_and_begins_a_stack_of_its_own() -> None:
    environment = SeededEnvironment("ALE/Breakout-v5?max_noops=0", seed=0, index=0)
    environment.step(_FIRE)
    last, _, terminated, truncated = next(
        step for step in iter(lambda: environment.step(_RIGHT), None) if step[2]
    )
    assert (terminated, truncated) == (True, False)
    first = environment.observation
    assert all(np.array_equal(frame, last[-1]) for frame in first)
    assert not np.array_equal(last[0], last[-1])
    # The game goes on: its seed stays, and its actions are kept.
    assert environment.state().episode == 0
    assert len(environment.state().actions) > 10


def test_a_restored_game_goes_on_byte_for_byte_after_a_lost_life() -> None:
    saved = Environments("ALE/Breakout-v5", 1, seed=4)
    actions = np.tile([_FIRE, _RIGHT, _RIGHT], 40)
    ends = [bool(saved.step(np.array([action])).terminated[0]) for action in actions]
    assert any(ends)
    restored = Environments("ALE/Breakout-v5", 1, seed=4)
    restored.restore(saved.states())
    for action in actions[:60]:
        found, expected = restored.step(np.array([action])), saved.step(np.array([action]))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_evaluation_plays_all_five_lives() -> None:
    def fire_or_go_right(observations: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        # Fires every time that nothing has moved for four frames.
        stuck = (observations[:, :1] == observations).all(axis=(1, 2, 3))
        q_values = np.zeros((len(observations), 4), np.float32)
        q_values[stuck, _FIRE] = q_values[~stuck, _RIGHT] = 1.0
        return q_values

    (episode,) = play(fire_or_go_right, "ALE/Breakout-v5?max_screens=4000", 1, 0.0, seed=1)
    lost = make_environment("ALE/Breakout-v5?max_screens=4000", for_training=True)
    lost.reset(seed=int(np.random.SeedSequence(1).generate_state(1)[0]))
    lives_lost = sum(NEXT_LIFE in lost.step(action)[4] for action in episode.actions)
    assert lives_lost == 4
    assert episode.terminated


def test_a_game_past_its_screens_is_truncated_and_not_terminated() -> None:
    environment = bare("pong", max_screens=60)
    environment.reset(seed=0)
    flags = [environment.step(np.int64(0))[2:4] for _ in range(15)]
    assert flags[-2:] == [(False, False), (False, True)]


def test_the_same_seed_gives_the_same_game_and_another_seed_another_beginning() -> None:
    environment = AtariEnvironment("pong", AtariOptions(sticky=0.25))

    def frames(seed: int) -> list[bytes]:
        first, _ = environment.reset(seed=seed)
        steps = [environment.step(np.int64(action))[0] for action in [2, 3, 2, 3] * 10]
        return [frame.tobytes() for frame in (first, *steps)]

    first = frames(5)
    assert frames(6) != first
    assert frames(5) == first


def test_sticky_buttons_change_what_actions_do() -> None:
    def frames(sticky: float) -> list[bytes]:
        environment = bare("pong", sticky=sticky)
        environment.reset(seed=0)
        return [environment.step(np.int64(a))[0].tobytes() for a in [2, 3, 0, 3] * 20]

    assert frames(0.25) != frames(0.0)


def test_the_description_says_stack_and_bytes() -> None:
    spec = describe_environment("ALE/Pong-v5")
    assert spec.num_actions == 6
    assert spec.observation == ObservationSpec(
        shape=(4, 84, 84), dtype="uint8", low=0.0, high=255.0, frame_stack=4
    )


def test_a_game_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no Atari game 'pang'"):
        make_environment("ALE/Pang-v5", for_training=True)


def test_an_option_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="lifeloss"):
        make_environment("ALE/Pong-v5?lifeloss=false", for_training=True)

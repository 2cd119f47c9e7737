"""Atari games that the emulator steps in threads of its own."""

import gymnasium
import numpy as np
import numpy.typing as npt

from training.atari_options import FRAME_STACK, AtariOptions
from training.environment_name import parse_name
from training.environments import EpisodeState, Observations
from training.replay import Transitions


class AleEnvironments:
    """Atari in the emulator's own threads.

    Its frames differ from those at serving by at most one grey, and it keeps its state to itself:
    a run that is resumed begins new episodes.
    """

    goes_on = False

    def __init__(self, name: str, num_environments: int, seed: int) -> None:
        """Begin as many games.

        Raises:
            ValueError: The name is not of an Atari game, or the emulator cannot crop as it says.
        """
        # Only who plays Atari needs its emulator.
        from ale_py.vector_env import AtariVectorEnv

        parsed = parse_name(name)
        options = AtariOptions.model_validate(parsed.options)
        if parsed.game is None or options.crop_top or options.crop_bottom:
            raise ValueError(f"{name}: the emulator steps Atari games only, and crops no screen")
        self._games = AtariVectorEnv(
            parsed.game,
            num_environments,
            max_num_frames_per_episode=options.max_screens,
            repeat_action_probability=options.sticky,
            stack_num=FRAME_STACK,
            frameskip=options.frame_skip,
            noop_max=options.max_noops,
            episodic_life=options.life_loss,
            reward_clipping=False,
            use_fire_reset=False,
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
        )
        # The emulator adds 1 for each environment.
        first_seed = int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**30
        self.observations: Observations = self._games.reset(seed=first_seed)[0]
        self._num_ended = np.zeros(num_environments, np.int64)

    def __len__(self) -> int:
        return self._games.num_envs

    def step(self, actions: npt.NDArray[np.int64]) -> Transitions:
        """Act in every game, [N]."""
        observations = self.observations
        self.observations, rewards, terminated, truncated, info = self._games.step(actions)
        next_observations = self.observations
        ended = terminated | truncated
        if ended.any():
            next_observations = self.observations.copy()
            next_observations[ended] = info["final_obs"][ended]
        self._num_ended += ended
        return Transitions(
            observations=observations,
            actions=actions,
            rewards=rewards.astype(np.float32),
            next_observations=next_observations,
            terminated=terminated,
            truncated=truncated,
        )

    def states(self) -> list[EpisodeState]:
        """The number of each game's episode: all that is known."""
        return [EpisodeState(episode=int(episode), actions=()) for episode in self._num_ended]

    def restore(self, states: list[EpisodeState]) -> None:
        """Take up the numbers of the episodes, each of which begins anew."""
        self._num_ended = np.array([state.episode for state in states])

    def close(self) -> None:
        """Free the emulators."""
        self._games.close()

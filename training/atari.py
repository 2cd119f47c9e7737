"""Atari games as DQN takes them (Mnih et al., 2015).

An action holds for four screens, an observation is a stack of four grey 84x84 frames, an episode
begins with up to 30 idle screens. Two other customs are left to the caller: rewards are clipped
where they are learned from, and no button is pressed for the policy, since nobody would press it
when the policy serves.
"""

from typing import Any

import ale_py
import gymnasium
import numpy as np
import numpy.typing as npt
from ale_py import roms

from contract.declaration import ObservationSpec
from contract.frames import FrameStack, Pixels
from training.atari_options import FRAME_STACK, NEXT_LIFE, AtariOptions

_SCREENS_SEEN = 2
"""Of each step's screens the last two are seen: many games draw an object every other screen."""


class AtariEnvironment(gymnasium.Env[Pixels, np.int64]):
    """One game. Observations are [4, 84, 84] of uint8; an episode follows from its seed alone."""

    def __init__(self, game: str, options: AtariOptions) -> None:
        """Load the game's ROM, which comes with ale-py.

        Args:
            game: Its name in snake case, such as `pong`.
            options: How it is played.

        Raises:
            ValueError: There is no such game.
        """
        rom = roms.get_rom_path(game) if game in roms.get_all_rom_ids() else None
        if rom is None:
            raise ValueError(f"there is no Atari game {game!r}")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._game = ale_py.ALEInterface()
        # Stickiness is drawn here, so that one seed decides an episode; the emulator draws nothing.
        self._game.setInt("random_seed", 0)
        self._game.setFloat("repeat_action_probability", 0.0)
        self._game.setInt("max_num_frames_per_episode", options.max_screens)
        self._game.loadROM(rom)

        self._options = options
        self._preprocessing = options.preprocessing
        self._buttons: list[ale_py.Action] = list(self._game.getMinimalActionSet())
        self._idle: ale_py.Action = ale_py.Action.NOOP
        self._last_button: ale_py.Action = self._idle
        self._screens = np.empty((_SCREENS_SEEN, *self._game.getScreenDims()), np.uint8)
        shape = (FRAME_STACK, self._preprocessing.height, self._preprocessing.width)
        self._spec = ObservationSpec(shape=shape, dtype="uint8", frame_stack=FRAME_STACK)
        self._stack, self._stack_steps = FrameStack(self._spec), 0
        self._lives = 0
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self._buttons))

    @property
    def labels(self) -> list[str]:
        """What each action presses."""
        return [button.name for button in self._buttons]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pixels, dict[str, Any]]:
        """Begin a game; without a seed the next one of the generator."""
        super().reset(seed=seed)
        self._game.reset_game()
        self._last_button = self._idle
        if self._options.max_noops:
            for _ in range(int(self.np_random.integers(1, self._options.max_noops + 1))):
                self._game.act(self._idle)
        self._lives = self._game.lives()
        self._game.getScreenGrayscale(self._screens[0])
        return self._begin_stack(self._preprocessing.frame(self._screens[:1])), {}

    def step(self, action: np.int64) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Hold an action for `frame_skip` screens; the reward is their sum, not clipped."""
        button = self._buttons[int(action)]
        reward, num_seen = 0.0, 0
        for screens_left in reversed(range(self._options.frame_skip)):
            reward += self._game.act(self._pressed(button))
            has_ended = self._game.game_over()
            if screens_left < _SCREENS_SEEN or has_ended:
                self._game.getScreenGrayscale(self._screens[num_seen])
                num_seen += 1
            if has_ended:
                break
        frame = self._preprocessing.frame(self._screens[:num_seen])
        observation = self._push(frame)
        truncated = bool(self._game.game_truncated())
        terminated = has_ended and not truncated
        return observation, reward, terminated, truncated, self._life_info(frame, has_ended)

    def close(self) -> None:
        """Nothing outlives the object."""

    def _life_info(self, frame: Pixels, has_ended: bool) -> dict[str, Any]:
        lives_before, self._lives = self._lives, self._game.lives()
        if not self._options.life_loss or has_ended or self._lives >= lives_before:
            return {}
        return {NEXT_LIFE: self._begin_stack(frame)}

    def _pressed(self, button: ale_py.Action) -> ale_py.Action:
        if self._options.sticky and self.np_random.random() < self._options.sticky:
            return self._last_button
        self._last_button = button
        return button

    def _begin_stack(self, frame: Pixels) -> Pixels:
        self._stack, self._stack_steps = FrameStack(self._spec), 0
        return self._push(frame)

    def _push(self, frame: Pixels) -> Pixels:
        stack: npt.NDArray[np.uint8] | None = self._stack.push(frame, self._stack_steps)
        assert stack is not None  # it is whole from its step 0 on
        self._stack_steps += 1
        return stack

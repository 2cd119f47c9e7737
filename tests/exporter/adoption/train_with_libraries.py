"""Trains small policies with other people's libraries, in an environment that has them.

`python train_with_libraries.py <folder>` leaves in the folder what each library saves, and beside
it `<name>.npz` with observations and the Q-values that the library itself gives for them.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import d3rlpy  # type: ignore[import-not-found]
import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN  # type: ignore[import-not-found]
from stable_baselines3.common.vec_env import (  # type: ignore[import-not-found]
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
)

ROWS = 65


class Dots(gymnasium.Env[np.ndarray[Any, Any], np.int64]):
    """A bright dot walks over a dark picture of [height, width, channels]; it pays to stay put."""

    action_space = spaces.Discrete(3)

    def __init__(self, channels: int) -> None:
        self.observation_space = spaces.Box(0, 255, (40, 44, channels), np.uint8)
        self._place = np.zeros(2, dtype=np.int64)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._place = self.np_random.integers(4, 36, size=2)
        self._steps = 0
        return self._picture(), {}

    def step(self, action: np.int64) -> Any:
        self._steps += 1
        self._place = np.clip(self._place + (int(action) - 1), 0, 39)
        return self._picture(), float(action == 1), False, self._steps >= 20, {}

    def _picture(self) -> np.ndarray[Any, Any]:
        picture = self.np_random.integers(0, 20, self.observation_space.shape).astype(np.uint8)
        row, column = self._place
        picture[max(row - 3, 0) : row + 3, max(column - 3, 0) : column + 3] = 230
        return picture


def q_values_of(model: DQN, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What Stable-Baselines3 itself gives, its own preprocessing included."""
    with torch.no_grad():
        tensors, _ = model.policy.obs_to_tensor(observations)
        found: np.ndarray[Any, Any] = model.q_net(tensors).numpy()
        return found


def train_vector(folder: Path) -> None:
    """CartPole with tanh and a discount of its own."""
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        gamma=0.97,
        learning_starts=200,
        seed=1,
        policy_kwargs={"net_arch": [32, 24], "activation_fn": torch.nn.Tanh},
    )
    model.learn(2000)
    model.save(folder / "vector.zip")
    observations = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    np.savez(
        folder / "vector.npz", observations=observations, q_values=q_values_of(model, observations)
    )


def train_normalised(folder: Path) -> None:
    """CartPole behind VecNormalize, whose statistics are saved beside it."""
    environment = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), clip_obs=3.0)
    model = DQN("MlpPolicy", environment, learning_starts=200, seed=1)
    model.learn(1500)
    model.save(folder / "normalised.zip")
    environment.save(str(folder / "vecnormalize.pkl"))
    moments = environment.obs_rms
    np.savez(
        folder / "vecnormalize.npz",
        mean=moments.mean,
        var=moments.var,
        epsilon=environment.epsilon,
        clip_obs=environment.clip_obs,
    )
    observations = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    normalised = environment.normalize_obs(observations)
    np.savez(
        folder / "normalised.npz",
        observations=observations,
        q_values=q_values_of(model, normalised),
    )


def train_frames(folder: Path) -> None:
    """Stacked pictures: grey ones, and coloured ones."""
    for name, channels in (("grey", 1), ("colour", 3)):
        environment = VecFrameStack(DummyVecEnv([lambda c=channels: Dots(c)]), n_stack=4)
        model = DQN("CnnPolicy", environment, learning_starts=50, buffer_size=500, seed=1)
        model.learn(120)
        model.save(folder / f"{name}.zip", exclude=["replay_buffer"])
        frames = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 40, 44, channels))
        frames = frames.astype(np.uint8)
        # What VecFrameStack hands on: the frames' channels one after another, last.
        stacked = np.concatenate(list(frames.transpose(1, 0, 2, 3, 4)), axis=-1)
        q_values = q_values_of(model, stacked.transpose(0, 3, 1, 2))
        observations = frames[..., 0] if channels == 1 else frames
        np.savez(folder / f"{name}.npz", observations=observations, q_values=q_values)


def train_offline(folder: Path) -> None:
    """d3rlpy's DQN on CartPole's standard dataset shape, with its observations scaled."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(600, 4)).astype(np.float32)
    dataset = d3rlpy.dataset.MDPDataset(
        observations=observations,
        actions=rng.integers(3, size=(600, 1)),
        rewards=rng.normal(size=(600, 1)).astype(np.float32),
        terminals=(np.arange(600) % 20 == 19).astype(np.float32),
    )
    scaler = d3rlpy.preprocessing.StandardObservationScaler(
        mean=np.array([0.1, 0.2, 0.3, 0.4]), std=np.array([1.0, 2.0, 3.0, 4.0])
    )
    dqn = d3rlpy.algos.DoubleDQNConfig(observation_scaler=scaler, batch_size=32).create()
    dqn.fit(
        dataset,
        n_steps=60,
        n_steps_per_epoch=60,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    # d3rlpy 2.8 hands a traced function on, which PyTorch's newer exporter does not take.
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    dqn.save_policy(str(folder / "offline.onnx"))
    rows = observations[:ROWS]
    q_values = np.stack(
        [dqn.predict_value(rows, np.full(ROWS, action)) for action in range(3)], axis=1
    )
    np.savez(folder / "offline.npz", observations=rows, q_values=q_values.astype(np.float32))


def main() -> None:
    """Train them all."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for train in (train_vector, train_normalised, train_frames, train_offline):
        train(folder)


if __name__ == "__main__":
    main()

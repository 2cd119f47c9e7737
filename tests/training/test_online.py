import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.training.builders import CORRIDOR, register_corridor, training_config
from training.checkpoint import CheckpointError, read_checkpoint
from training.config import TrainingConfig
from training.divergence import DivergenceError
from training.episode_log import EPISODES_FILE, EVALUATIONS_FILE
from training.online import TrainingSummary, resume, stop_on_signals, train
from training.run import TrainingRun, has_crossed


@pytest.fixture(autouse=True)
def _corridor() -> None:
    register_corridor()


RAINBOW = {
    "n_step": 3,
    "prioritised": True,
    "noise_scale": 0.5,
    "dueling": True,
    "distribution": {"kind": "categorical", "minimum": 0.0, "maximum": 50.0, "size": 11},
    "layer_norm": True,
}


def quiet() -> Console:
    return Console(file=io.StringIO())


def records(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def weights(folder: Path) -> torch.Tensor:
    network = read_checkpoint(folder).network
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def stop_after(rounds: int) -> Any:
    remaining = iter([False] * rounds + [True])
    return lambda: next(remaining)


def assert_same_run(first: Path, second: Path) -> None:
    for name in (EPISODES_FILE, EVALUATIONS_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert records(first, name)
    for checkpoint in ("best", "last"):
        assert torch.equal(weights(first / checkpoint), weights(second / checkpoint))
        statistics = [
            read_checkpoint(out / checkpoint).metadata.statistics for out in (first, second)
        ]
        assert statistics[0] == statistics[1]


def test_the_same_seed_gives_the_same_curve_and_weights(tmp_path: Path) -> None:
    for name in ("first", "second"):
        train(training_config(tmp_path / name), quiet())
    assert_same_run(tmp_path / "first", tmp_path / "second")


def test_another_seed_gives_another_curve(tmp_path: Path) -> None:
    for seed in (3, 4):
        train(training_config(tmp_path / str(seed), seed=seed), quiet())
    first, second = (records(tmp_path / str(seed), EPISODES_FILE) for seed in (3, 4))
    assert [record["length"] for record in first] != [record["length"] for record in second]


# Round 10 lies in the warm-up, round 27 past the first evaluation and checkpoint.
@pytest.mark.parametrize("rounds", [10, 27])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimiser": "rmsprop", "target_update": "soft", "dueling": True, "loss": "mse"},
        RAINBOW,
    ],
    ids=["adam", "rmsprop", "rainbow"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, rounds: int, changes: dict[str, Any]
) -> None:
    train(training_config(tmp_path / "whole", **changes), quiet())
    summary = train(training_config(tmp_path / "parts", **changes), quiet(), stop_after(rounds))
    assert (summary.stopped_by, summary.steps) == ("interrupted", rounds * 16)
    resume(tmp_path / "parts", quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


# Games are cut short, since evaluations play whole ones.
@pytest.mark.slow
@pytest.mark.parametrize("replay_storage", ["frames", "compressed_frames"])
def test_a_resumed_run_of_stored_frames_equals_an_uninterrupted_one(
    tmp_path: Path, replay_storage: str
) -> None:
    changes: dict[str, Any] = {
        "environment_id": "ALE/Pong-v5?max_screens=160",
        "convolutions": "nature",
        "normalise_observations": False,
        "replay_storage": replay_storage,
        "replay_capacity": 120,
        "prioritised": True,
        "n_step": 3,
        "total_steps": 320,
        "learning_starts": 160,
    }
    train(training_config(tmp_path / "whole", **changes), quiet())
    train(training_config(tmp_path / "parts", **changes), quiet(), stop_after(14))
    resume(tmp_path / "parts", quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_processes_train_as_stepping_one_after_another_does(tmp_path: Path) -> None:
    train(training_config(tmp_path / "sync"), quiet())
    changes: dict[str, Any] = {"stepping": "async", "stepping_processes": 2}
    train(training_config(tmp_path / "parts", **changes), quiet(), stop_after(27))
    resume(tmp_path / "parts", quiet())
    assert_same_run(tmp_path / "sync", tmp_path / "parts")


@pytest.mark.slow
def test_a_resumed_run_of_the_emulators_own_games_begins_new_episodes(tmp_path: Path) -> None:
    config = training_config(
        tmp_path,
        environment_id="ALE/Pong-v5?max_screens=160",
        stepping="ale",
        convolutions="nature",
        normalise_observations=False,
        replay_storage="frames",
        total_steps=480,
        learning_starts=480,
        evaluation_every_steps=1_000,
        evaluation_episodes=1,
    )
    # 13 rounds of 16 steps, four of each game, end twelve steps into the second episodes.
    train(config, quiet(), stop_after(13))
    resume(tmp_path, quiet())
    lengths = [record["length"] for record in records(tmp_path, EPISODES_FILE)]
    # A game is cut off after 40 steps; what was under way is not counted to the next one.
    assert set(lengths) == {40}
    assert len(lengths) == 8


def test_a_killed_run_goes_on_from_its_latest_checkpoint(tmp_path: Path) -> None:
    train(training_config(tmp_path / "whole"), quiet())

    def kill_after_the_checkpoint_at_step_400() -> bool:
        if len(seen) == 33:
            raise KeyboardInterrupt
        seen.append(None)
        return False

    seen: list[None] = []
    with pytest.raises(KeyboardInterrupt):
        train(training_config(tmp_path / "killed"), quiet(), kill_after_the_checkpoint_at_step_400)
    assert read_checkpoint(tmp_path / "killed" / "last").metadata.steps == 400
    # What the killed run logged after step 400 is cut off and logged again.
    assert records(tmp_path / "killed", EPISODES_FILE)[-1]["steps"] > 400
    resume(tmp_path / "killed", quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_every_episode_is_logged_once_and_adds_up(tmp_path: Path) -> None:
    train(training_config(tmp_path), quiet())
    episodes = records(tmp_path, EPISODES_FILE)
    assert [record["episode"] for record in episodes] == list(range(1, len(episodes) + 1))
    # CartPole pays 1 a step; what is not logged is under way in one of 4 environments.
    assert all(record["episode_return"] == record["length"] for record in episodes)
    statistics = read_checkpoint(tmp_path / "last").metadata.statistics
    assert statistics.returns.count == len(episodes)
    assert statistics.returns.maximum == max(record["episode_return"] for record in episodes)
    assert statistics.rewards.count == 800
    assert 800 - sum(record["length"] for record in episodes) < 4 * 500
    assert episodes[0]["loss"] is None
    assert episodes[-1]["loss"] > 0


def test_logged_rewards_are_the_environments_and_learned_ones_are_scaled(tmp_path: Path) -> None:
    train(training_config(tmp_path, environment_id=CORRIDOR, reward_scale=1e-6), quiet())
    metadata = read_checkpoint(tmp_path / "last").metadata
    assert metadata.statistics.rewards.maximum == 6.0
    assert metadata.reward_transform.scale == 1e-6
    # Rewards of up to 6 would leave a loss beyond 1.
    assert records(tmp_path, EPISODES_FILE)[-1]["loss"] < 0.1


def learned_corridor(tmp_path: Path, **changes: Any) -> TrainingSummary:
    fields: dict[str, Any] = {
        "environment_id": CORRIDOR,
        "total_steps": 4_000,
        "updates_per_round": 16,
        "evaluation_epsilon": 0.0,
        "evaluation_episodes": 8,
    }
    return train(training_config(tmp_path, **(fields | changes)), quiet())


def test_the_run_stops_once_a_confirmed_evaluation_reaches_the_target(tmp_path: Path) -> None:
    # Going on at every step gives at least 15 (from cell 0) and at most 18 (from cell 2).
    summary = learned_corridor(tmp_path, target_return=15.0, confirmation_episodes=30)
    assert summary.stopped_by == "target"
    assert summary.steps < 4_000
    evaluations = records(tmp_path, EVALUATIONS_FILE)
    assert [record["episodes"] for record in evaluations[-2:]] == [8, 30]
    assert summary.best_return == evaluations[-1]["mean_return"]
    assert read_checkpoint(summary.best).metadata.evaluation_return == summary.best_return


def test_best_is_the_truest_of_those_that_return_enough_where_truth_is_asked(
    tmp_path: Path,
) -> None:
    goals = {"target_return": 15.0, "target_calibration": 1e-9, "confirmation_episodes": 30}
    # Long after it can walk its Q-values grow beyond all bounds.
    summary = learned_corridor(tmp_path, total_steps=1_600, q_limit_factor=1e6, **goals)
    assert summary.stopped_by == "total_steps"
    confirmed = [
        record
        for record in records(tmp_path, EVALUATIONS_FILE)
        if record["episodes"] == 30 and record["mean_return"] >= 15.0
    ]
    assert len(confirmed) > 1

    def gap(record: dict[str, Any]) -> float:
        return abs(float(record["mean_start_q"]) / float(record["mean_start_return"]) - 1.0)

    metadata = read_checkpoint(summary.best).metadata
    assert metadata.steps == min(confirmed, key=gap)["steps"]


def test_best_is_the_checkpoint_of_the_best_evaluation(tmp_path: Path) -> None:
    summary = learned_corridor(tmp_path, total_steps=800, updates_per_round=8)
    evaluations = records(tmp_path, EVALUATIONS_FILE)
    best = max(evaluations, key=lambda record: (record["mean_return"], record["steps"]))
    metadata = read_checkpoint(summary.best).metadata
    assert summary.stopped_by == "total_steps"
    assert (metadata.evaluation_return, metadata.steps) == (best["mean_return"], best["steps"])


def test_normalisation_is_fitted_to_the_first_steps_and_then_stays(tmp_path: Path) -> None:
    run = TrainingRun(training_config(tmp_path, environment_id=CORRIDOR))
    normalisation = run.learner.online_network.normalisation
    assert normalisation is not None
    while run.steps < 300:
        run.advance()
    fitted = normalisation.mean.clone()
    # The step count of an episode runs through 0..4, so its mean lies near 2.
    assert 1.5 < float(fitted[1]) < 2.5
    run.advance()
    assert torch.equal(normalisation.mean, fitted)


def test_a_run_that_diverges_stops_and_names_the_cause(tmp_path: Path) -> None:
    config = training_config(
        tmp_path, double=False, learning_rate=10.0, gradient_norm_limit=1e9, total_steps=4_000
    )
    with pytest.raises(DivergenceError, match=r"\|Q\| is .* beyond the limit"):
        train(config, quiet())


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(training_config(tmp_path), quiet(), stop_after(1))
    with pytest.raises(FileExistsError, match="--resume"):
        train(training_config(tmp_path), quiet())


def test_resuming_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="last"):
        resume(tmp_path, quiet())


def test_mistakes_are_warned_of_at_the_start(tmp_path: Path) -> None:
    console = quiet()
    train(training_config(tmp_path, replay_capacity=300), console, stop_after(0))
    assert isinstance(console.file, io.StringIO)
    assert "warning: the replay holds 300 transitions" in console.file.getvalue()


def test_ctrl_c_stops_after_the_round_and_a_second_one_at_once(
    request: pytest.FixtureRequest,
) -> None:
    # A shell has what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with stop_on_signals() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("before", "after", "crossed"),
    [(0, 63, False), (0, 64, True), (64, 127, False), (60, 200, True)],
)
def test_an_interval_is_crossed_where_a_multiple_is_reached(
    before: int, after: int, crossed: bool
) -> None:
    assert has_crossed(64, before, after) == crossed


def test_the_checkpoint_holds_the_whole_configuration(tmp_path: Path) -> None:
    config = training_config(tmp_path)
    train(config, quiet(), stop_after(1))
    saved = read_checkpoint(tmp_path / "last").metadata.config
    assert TrainingConfig.model_validate(saved) == config

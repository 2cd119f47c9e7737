from pathlib import Path

import pytest
import torch

from contract.declaration import ObservationSpec
from contract.manifest import RewardTransform
from tests.training.builders import q_network
from training.checkpoint import (
    METADATA_FILE,
    NETWORK_FILE,
    CheckpointError,
    CheckpointMetadata,
    RunState,
    TrainingStatistics,
    read_checkpoint,
    read_state,
    replacing_folder,
    write_checkpoint,
)
from training.learner import flatten_parameters
from training.moments import RunningMoments
from training.network import QNetwork

OBSERVATIONS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))


def metadata(network: QNetwork, steps: int = 120) -> CheckpointMetadata:
    moments = RunningMoments()
    moments.add([1.0, 4.0])
    summary = moments.summary()
    return CheckpointMetadata(
        environment_id="CartPole-v1",
        observation=ObservationSpec(shape=(4,), low=(-4.8, -1.0, -0.4, -1.0), high=5.0),
        num_actions=3,
        network=network.config,
        discount=0.98,
        n_step=1,
        reward_transform=RewardTransform(clip=1.0, scale=0.5),
        statistics=TrainingStatistics(
            returns=summary, lengths=summary, rewards=summary, absolute_q_values=summary
        ),
        evaluation_return=None,
        config={"hidden_sizes": [8, 6], "preset": None},
        seed=7,
        steps=steps,
        updates=10,
        episodes=2,
        wall_seconds=1.5,
        cpu_seconds=1.25,
        created_at="2026-01-02T03:04:05+00:00",
        versions={"torch": "2"},
        git_revision=None,
    )


def test_a_checkpoint_gives_back_its_metadata_and_its_networks_values(tmp_path: Path) -> None:
    network = q_network(dueling=True, normalise_observations=True)
    flatten_parameters(network)
    write_checkpoint(tmp_path / "best", metadata(network), network)
    read = read_checkpoint(tmp_path / "best")
    assert read.metadata == metadata(network)
    assert not read.network.training
    torch.testing.assert_close(read.network(OBSERVATIONS), network(OBSERVATIONS), rtol=0, atol=0)


def test_state_comes_back_with_whole_numbers_beyond_64_bits(tmp_path: Path) -> None:
    network = q_network()
    state = RunState({"online": torch.arange(3.0)}, {"rng": 2**127 + 1, "loss": None})
    write_checkpoint(tmp_path / "last", metadata(network), network, state)
    read = read_state(tmp_path / "last")
    assert read.values == state.values
    assert read.tensors["online"].tolist() == [0.0, 1.0, 2.0]


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for steps in (120, 240):
        write_checkpoint(tmp_path / "last", metadata(q_network(), steps), q_network())
    assert read_checkpoint(tmp_path / "last").metadata.steps == 240
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", metadata(q_network()), q_network())
    unwritable = RunState({}, {"rng": object()})
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path / "last", metadata(q_network(), 999), q_network(), unwritable)
    assert read_checkpoint(tmp_path / "last").metadata.steps == 120
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", metadata(q_network()), q_network())
    (tmp_path / "last").rename(tmp_path / ".last.previous")
    assert read_checkpoint(tmp_path / "last").metadata.steps == 120
    write_checkpoint(tmp_path / "last", metadata(q_network(), 240), q_network())
    assert read_checkpoint(tmp_path / "last").metadata.steps == 240
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_remains_of_a_killed_write_do_not_get_into_the_next(tmp_path: Path) -> None:
    remains = tmp_path / ".last.unfinished"
    remains.mkdir()
    (remains / "half").write_text("half")
    with replacing_folder(tmp_path / "last") as folder:
        (folder / "whole").write_text("whole")
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["whole"]


@pytest.mark.parametrize("name", [METADATA_FILE, NETWORK_FILE])
def test_a_torn_or_missing_file_is_refused_by_folder(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "best", metadata(q_network()), q_network())
    path = tmp_path / "best" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="best"):
        read_checkpoint(tmp_path / "best")
    path.unlink()
    with pytest.raises(CheckpointError, match="best"):
        read_checkpoint(tmp_path / "best")


def test_weights_of_another_shape_than_declared_are_refused(tmp_path: Path) -> None:
    network, other = q_network(), q_network(hidden_sizes=(8, 7))
    write_checkpoint(tmp_path / "best", metadata(network), other)
    with pytest.raises(CheckpointError, match="size mismatch"):
        read_checkpoint(tmp_path / "best")


def test_a_checkpoint_without_state_says_that_it_cannot_be_resumed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best", metadata(q_network()), q_network())
    with pytest.raises(CheckpointError, match="no state to resume from"):
        read_state(tmp_path / "best")

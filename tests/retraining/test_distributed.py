from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from contract.bundle import read_bundle
from retraining.config import RetrainConfig
from retraining.distributed import learn_together
from retraining.learning import learn_candidate
from retraining.sources import Sources
from retraining.state import CycleState, write_state
from tests.builders import POLICY
from tests.retraining.serving import NOW, config, episode, seal_episodes, write_version


def started(data: Path) -> tuple[RetrainConfig, CycleState]:
    """A cycle that has collected its dataset, and is to be learned in two processes."""
    write_version(data)
    assert read_bundle(data / "policies" / POLICY / "1").manifest.version == 1
    seal_episodes(data, [episode(number) for number in range(40)])
    together = config(data, processes=2)
    state = CycleState(
        cycle_id="first", policy=POLICY, started_at=NOW, seed=3, stage="learn", parent=1
    )
    dataset = Sources(together).dataset(state)
    state = state.model_copy(update={"dataset_sha256": dataset.sha256})
    write_state(together.folder, state)
    return together, state


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_learn_and_choose_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    together, state = started(tmp_path)
    sources = Sources(together)
    reading = sources.read_again(state)
    assert reading is not None
    alone = learn_candidate(together, sources.parent(state), reading, 3, tmp_path / "alone")
    found = learn_together(together, state)
    assert found.chosen == alone.chosen
    assert [each[:2] for each in found.candidates] == [each[:2] for each in alone.candidates]
    (one,) = (tmp_path / "alone").glob("*.safetensors")
    (two,) = sources.candidate_folder(state).glob("*.safetensors")
    for name, value in load_file(one).items():
        # Sums are added in another order.
        torch.testing.assert_close(load_file(two)[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_cannot_be_learned_from_is_refused_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    together, state = started(tmp_path)
    demanding = together.model_copy(
        update={"limits": together.limits.model_copy(update={"least_episodes": 1000})}
    )
    with pytest.raises(ValueError, match="24 whole episodes, expected at least 1000"):
        learn_together(demanding, state)

"""Policies really trained with the libraries, held to the Q-values that the libraries give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.adopt import adopt
from exporter.adoption.config import AdoptConfig
from exporter.verify import ParityError
from tests.exporter.adoption import libraries
from tests.exporter.adoption.adopting import manifest_of, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STACKED: dict[str, Any] = {"frame_stack": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    libraries.install()
    folder = tmp_path_factory.mktemp("trained")
    libraries.train(folder)
    return folder


def adopt_trained(folder: Path, repository: Path, name: str, **flags: Any) -> Path:
    """Through the reading child; the library's own answers are the reference."""
    file = next(path for path in folder.glob(f"{name}.*") if path.suffix != ".npz")
    config = AdoptConfig(
        source=file,
        repository=repository,
        policy=name,
        heuristic="constant:1",
        reference=folder / f"{name}.npz",
        **flags,
    )
    return adopt(config)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("vector", {"vecnormalize": Path("none")}),
        ("grey", STACKED | {"image_layout": "grey"}),
        ("colour", STACKED | {"image_layout": "channels-last"}),
        ("offline", {"discount": 0.99}),
    ],
)
def test_the_served_graph_gives_what_the_library_gives(
    trained: Path, tmp_path: Path, name: str, flags: dict[str, Any]
) -> None:
    directory = adopt_trained(trained, tmp_path, name, **flags)
    with np.load(trained / f"{name}.npz") as told:
        decided = served(directory).decide(told["observations"])
        np.testing.assert_allclose(decided.q_values, told["q_values"], rtol=1e-4, atol=1e-4)
        best = np.sort(told["q_values"], axis=1)
        clear = best[:, -1] - best[:, -2] > 1e-3
        expected = told["q_values"].argmax(axis=1)
        np.testing.assert_array_equal(decided.actions[clear], expected[clear])


def test_statistics_of_vecnormalize_make_the_difference(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"normalised\.npz"):
        adopt_trained(trained, tmp_path, "normalised", vecnormalize=Path("none"))
    statistics = trained / "vecnormalize.npz"
    directory = adopt_trained(trained, tmp_path, "normalised", vecnormalize=statistics)
    assert manifest_of(directory).lineage.training_steps == 1500


def test_a_policy_of_stable_baselines3_is_profiled_in_its_environment(
    trained: Path, tmp_path: Path
) -> None:
    directory = adopt_trained(
        trained,
        tmp_path,
        "vector",
        vecnormalize=Path("none"),
        environment="CartPole-v1",
        profile_episodes=20,
    )
    manifest = manifest_of(directory)
    assert manifest.discount == 0.97
    assert manifest.profile is not None
    assert manifest.profile.episode_return.count == 20
    assert manifest.floor == pytest.approx(9.4, abs=0.5)

"""Zips laid out as Stable-Baselines3's: read without running anything in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contract.declaration import read_declaration
from exporter.adoption.reading import read_source
from exporter.adoption.source import AdoptionError
from tests.exporter.adoption.adopting import adopt_file, manifest_of, served_q_values
from tests.exporter.adoption.sources import (
    perceptron,
    picture_network,
    pictures,
    q_values_of,
    saved,
    vectors,
    write_npz,
    write_sb3,
)

PICTURES: dict[str, Any] = {"image_layout": "grey", "frame_stack": 4}


def test_a_perceptron_answers_as_its_online_network_does(tmp_path: Path) -> None:
    source = write_sb3(tmp_path / "model.zip", perceptron())
    directory = adopt_file(source, vecnormalize="none")
    expected = q_values_of(perceptron(), vectors())
    np.testing.assert_allclose(served_q_values(directory, vectors()), expected, atol=1e-5)


def test_what_the_zip_says_is_in_the_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(
        adopt_file(write_sb3(tmp_path / "model.zip", perceptron()), vecnormalize="none")
    )
    assert (manifest.discount, manifest.n_step) == (0.97, 1)
    lineage = manifest.lineage
    assert (lineage.source, lineage.seed, lineage.training_steps) == ("adopt", 5, 1234)
    assert lineage.config["library"] == "stable-baselines3 2.9.2"
    assert manifest.profile is None


def test_another_activation_is_read_from_the_zip(tmp_path: Path) -> None:
    network = perceptron(nn.Tanh)
    data = {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}}
    directory = adopt_file(write_sb3(tmp_path / "m.zip", network, data=data), vecnormalize="none")
    expected = q_values_of(network, vectors())
    np.testing.assert_allclose(served_q_values(directory, vectors()), expected, atol=1e-5)


def test_an_unknown_activation_is_refused(tmp_path: Path) -> None:
    data = {"policy_kwargs": {"activation_fn": "<class 'mine.Squish'>"}}
    source = write_sb3(tmp_path / "model.zip", perceptron(), data=data)
    with pytest.raises(AdoptionError, match=r"mine\.Squish"):
        adopt_file(source, vecnormalize="none")


def test_whether_observations_were_normalised_must_be_said(tmp_path: Path) -> None:
    source = write_sb3(tmp_path / "model.zip", perceptron())
    with pytest.raises(AdoptionError, match="VecNormalize"):
        adopt_file(source)
    assert not (tmp_path / "policies").exists()


def test_statistics_are_part_of_the_graph(tmp_path: Path) -> None:
    mean, variance = np.array([1.0, -2.0, 0.5, 0.0]), np.array([4.0, 0.25, 1.0, 9.0])
    statistics = write_npz(
        tmp_path / "statistics.npz", mean=mean, var=variance, epsilon=0.25, clip_obs=1.5
    )
    source = write_sb3(tmp_path / "model.zip", perceptron())
    directory = adopt_file(source, vecnormalize=statistics)
    normalised = ((vectors() - mean) / np.sqrt(variance + 0.25)).clip(-1.5, 1.5)
    expected = q_values_of(perceptron(), normalised)
    np.testing.assert_allclose(served_q_values(directory, vectors()), expected, atol=1e-5)
    assert "±1.5" in (directory / "card.md").read_text(encoding="utf-8")


def test_pickled_statistics_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "vecnormalize.pkl").write_bytes(b"\x80")
    source = write_sb3(tmp_path / "model.zip", perceptron())
    with pytest.raises(AdoptionError, match=r"numpy\.savez"):
        adopt_file(source, vecnormalize=tmp_path / "vecnormalize.pkl")


@pytest.mark.parametrize(
    "changed", [{"mean": np.zeros(5)}, {"var": np.full(4, -1.0)}, {"epsilon": np.nan}]
)
def test_statistics_that_are_none_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    right = {"mean": np.zeros(4), "var": np.ones(4), "epsilon": 1e-8, "clip_obs": 10.0}
    statistics = write_npz(tmp_path / "statistics.npz", **(right | changed))
    source = write_sb3(tmp_path / "model.zip", perceptron())
    with pytest.raises(AdoptionError, match="statistics"):
        adopt_file(source, vecnormalize=statistics)


def test_grey_frames_are_stacked_and_divided_inside_the_graph(tmp_path: Path) -> None:
    network = picture_network()
    directory = adopt_file(
        write_sb3(tmp_path / "model.zip", network, shape=(4, 36, 40)), **PICTURES
    )
    declaration = read_declaration(directory.parent)
    assert declaration.observation.shape == (4, 36, 40)
    assert declaration.observation.dtype == "uint8"
    assert declaration.observation.frame_stack == 4
    assert declaration.observation.first_frames == "zeros"
    raw = pictures(4, 36, 40)
    expected = q_values_of(network, raw / 255)
    np.testing.assert_allclose(served_q_values(directory, raw), expected, atol=1e-5)


def test_coloured_frames_with_channels_last_are_laid_out_as_the_library_stacks(
    tmp_path: Path,
) -> None:
    network = picture_network(channels=6)
    source = write_sb3(tmp_path / "model.zip", network, shape=(6, 36, 40))
    directory = adopt_file(source, image_layout="channels-last", frame_stack=2)
    raw = pictures(2, 36, 40, 3)
    # The older frame's three channels first, then the newer one's.
    stacked = np.concatenate([raw[:, 0], raw[:, 1]], axis=-1).transpose(0, 3, 1, 2)
    expected = q_values_of(network, stacked / 255)
    np.testing.assert_allclose(served_q_values(directory, raw), expected, atol=1e-5)


def test_pictures_that_the_library_was_told_not_to_divide_are_not(tmp_path: Path) -> None:
    network = picture_network()
    data = {"policy_kwargs": {"normalize_images": False}}
    source = write_sb3(tmp_path / "model.zip", network, shape=(4, 36, 40), data=data)
    raw = pictures(4, 36, 40)
    np.testing.assert_allclose(
        served_q_values(adopt_file(source, **PICTURES), raw),
        q_values_of(network, raw),
        rtol=1e-4,
    )


@pytest.mark.parametrize("missing", ["image_layout", "frame_stack"])
def test_layout_and_stack_of_pictures_must_be_said(tmp_path: Path, missing: str) -> None:
    source = write_sb3(tmp_path / "model.zip", picture_network(), shape=(4, 36, 40))
    told = {name: value for name, value in PICTURES.items() if name != missing}
    with pytest.raises(AdoptionError, match="--image-layout"):
        adopt_file(source, **told)


def test_a_stack_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    source = write_sb3(tmp_path / "model.zip", picture_network(), shape=(4, 36, 40))
    with pytest.raises(AdoptionError, match="grey frames"):
        adopt_file(source, image_layout="grey", frame_stack=2)


class Bomb:
    """Would leave a file behind, were it unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def test_weights_that_would_run_code_are_refused_unrun(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    source = write_sb3(tmp_path / "model.zip", perceptron(), extra={"q_net.x": Bomb(trace)})  # type: ignore[dict-item]
    with pytest.raises(AdoptionError, match="could run any code"):
        read_source(source.read_bytes(), None, None)
    assert not trace.exists()


def test_pickled_objects_in_data_are_not_looked_at(tmp_path: Path) -> None:
    data = {"replay_buffer_class": {":serialized:": "not even base64"}}
    source = write_sb3(tmp_path / "model.zip", perceptron(), data=data)
    assert adopt_file(source, vecnormalize="none").is_dir()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"policy_class": {"__module__": "stable_baselines3.common.policies"}}, "only DQN"),
        ({"policy_class": {"__module__": "mine"}}, "only DQN"),
        ({"observation_space": {":type:": "<class 'gymnasium.spaces.dict.Dict'>"}}, "Box"),
        ({"observation_space": "a box"}, "observation_space"),
    ],
)
def test_other_algorithms_and_spaces_are_refused(
    tmp_path: Path, data: dict[str, Any], says: str
) -> None:
    source = write_sb3(tmp_path / "model.zip", perceptron(), data=data)
    with pytest.raises(AdoptionError, match=says):
        adopt_file(source, vecnormalize="none")


def test_layers_of_one_s_own_are_refused_by_name(tmp_path: Path) -> None:
    extra = {"q_net.features_extractor.attention.weight": torch.zeros(2, 2)}
    source = write_sb3(tmp_path / "model.zip", perceptron(), extra=extra)
    with pytest.raises(AdoptionError, match="attention"):
        adopt_file(source, vecnormalize="none")


def test_a_torn_zip_is_refused(tmp_path: Path) -> None:
    whole = write_sb3(tmp_path / "whole.zip", perceptron()).read_bytes()
    torn = tmp_path / "torn.zip"
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AdoptionError, match="zip"):
        adopt_file(torn, vecnormalize="none")


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.pkl"
    source.write_bytes(b"\x80\x04" + saved({})[2:])
    with pytest.raises(AdoptionError, match="bare pickle"):
        adopt_file(source)

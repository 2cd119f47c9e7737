"""Learning on from an earlier run: where a run begins, and what keeps it from forgetting."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from training.checkpoint import BEST, LAST, read_checkpoint, read_state, under
from training.config import TrainingConfig
from training.elasticity import Elasticity
from training.experience import Experience
from training.network import NetworkConfig, QNetwork
from training.regularisation import fisher_diagonal

FISHER_BATCHES = 16
"""Batches of the earlier replay that tell how much each parameter matters."""


class Earlier(NamedTuple):
    """What an earlier run leaves to one that learns on."""

    network: QNetwork
    """Its best network, in evaluation mode."""

    experience: Experience
    """What it remembered when it ended."""


def read_earlier(folder: Path, config: TrainingConfig, network: NetworkConfig) -> Earlier:
    """Read what an earlier run left.

    Args:
        folder: Of the earlier run.
        config: Of the run that learns on.
        network: Of its network.

    Raises:
        CheckpointError: There is no whole run in the folder.
        ValueError: The runs differ in their networks or in the unit of their Q-values.
    """
    metadata, best = read_checkpoint(folder / BEST)
    _check_same(folder, "network", metadata.network.model_dump(), network.model_dump())
    _check_same(
        folder,
        "unit of Q-values",
        {"discount": metadata.discount, **metadata.reward_transform.model_dump()},
        {"discount": config.discount, **config.reward_transform.model_dump()},
    )
    experience = Experience(TrainingConfig.model_validate(metadata.config), metadata.observation)
    experience.load_tensors(under("experience", read_state(folder / LAST).tensors))
    return Earlier(best, experience)


def elasticity(earlier: Earlier, config: TrainingConfig, rng: np.random.Generator) -> Elasticity:
    """What holds the parameters of an earlier run near where they were (elastic weights).

    Args:
        earlier: Whose replay tells which parameters mattered.
        config: Of the run that learns on.
        rng: Draws what the replay is asked for.
    """
    parameters = dict(earlier.network.named_parameters())
    importances = torch.zeros(sum(value.numel() for value in parameters.values()))
    for _ in range(FISHER_BATCHES):
        batch = earlier.experience.draw_evenly(config.batch_size, rng)
        fisher = fisher_diagonal(earlier.network, batch.observations)
        importances += torch.cat([fisher[name].flatten() for name in parameters])
    anchors = torch.cat([value.detach().flatten() for value in parameters.values()])
    return Elasticity(
        anchors.to(config.device),
        (config.elastic_strength / FISHER_BATCHES * importances).to(config.device),
    )


def _check_same(folder: Path, what: str, earlier: dict[str, Any], present: dict[str, Any]) -> None:
    different = [
        f"{name} {earlier[name]!r} became {value!r}"
        for name, value in present.items()
        if value != earlier[name]
    ]
    if different:
        raise ValueError(f"{folder} has another {what}: {', '.join(different)}")

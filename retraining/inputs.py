"""What values are regressed on: observations, or what a network makes of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.network import QNetwork
from training.offline_log import LoggedSteps

_ROWS_AT_ONCE = 4096


class Inputs(NamedTuple):
    """What is regressed on, for N steps."""

    observations: Tensor
    """[N, size]."""
    next_observations: Tensor
    """[N, size]."""


def observation_inputs(log: LoggedSteps) -> Inputs:
    """Observations themselves, flattened, at mean 0 and spread 1 over the log."""
    return _normalised(log.observations, log.next_observations)


@torch.no_grad()
def feature_inputs(network: QNetwork, log: LoggedSteps) -> Inputs:
    """What a network's last hidden layer makes of them: for frames, too many to regress on."""
    return _normalised(
        *(
            torch.cat(
                [
                    network.features(torch.from_numpy(column[start : start + _ROWS_AT_ONCE]))
                    for start in range(0, len(column), _ROWS_AT_ONCE)
                ]
            ).numpy()
            for column in (log.observations, log.next_observations)
        )
    )


def _normalised(
    observations: npt.NDArray[np.generic], following: npt.NDArray[np.generic]
) -> Inputs:
    flat = observations.reshape(len(observations), -1).astype(np.float32)
    mean, spread = flat.mean(axis=0), flat.std(axis=0)
    scale = np.divide(1.0, spread, out=np.ones_like(spread), where=spread > 1e-6)
    both = (flat, following.reshape(len(following), -1).astype(np.float32))
    return Inputs(*(torch.from_numpy(np.clip((each - mean) * scale, -10, 10)) for each in both))

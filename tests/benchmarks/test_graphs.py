"""The graphs that servers are measured with run, and say what a policy says."""

import numpy as np
import pytest

from benchmarks.serving.graphs import nature_graph, slow_graph
from benchmarks.serving.policies import observations_of
from service.inference.policy import open_session


@pytest.mark.parametrize("model", ["cnn", "slow"])
def test_actions_are_the_argmax_whatever_the_batch(model: str) -> None:
    rng = np.random.default_rng(0)
    session = open_session(nature_graph(rng) if model == "cnn" else slow_graph(rng, 3))
    for rows in (1, 5):
        actions, q_values, features = session.run(
            ["actions", "q_values", "features"], {"observations": observations_of(model, rows)}
        )
        assert actions.tolist() == q_values.argmax(axis=1).tolist()
        assert len(features) == rows
        assert np.isfinite(q_values).all()


def test_a_long_chain_still_tells_observations_apart() -> None:
    session = open_session(slow_graph(np.random.default_rng(0), 60))
    (q_values,) = session.run(["q_values"], {"observations": observations_of("slow", 2)})
    assert np.abs(q_values[0] - q_values[1]).max() > 0.01

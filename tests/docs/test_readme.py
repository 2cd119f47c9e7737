"""The README's commands, in order, as a reader would go through them."""

import sys
from pathlib import Path
from typing import Final

import pytest

from tests import builders
from tests.docs.pages import ROOT, run
from tests.service.running import promote

WAIT: Final = (
    "curl --silent --fail --retry 100 --retry-delay 1 --retry-all-errors --output ready.json "
    "http://127.0.0.1:8000/readyz"
)
EPISODES: Final = """\
from dqn_client import Client
import gymnasium

environment = gymnasium.make("CartPole-v1", max_episode_steps=100)
with Client("http://127.0.0.1:8000") as client:
    for seed in range(60):
        observation, _ = environment.reset(seed=seed)
        episode = client.episode("mine")
        while not episode.is_over:
            action = episode.act(observation)
            observation, reward, terminated, truncated, _ = environment.step(action)
            episode.reward(reward, terminated, truncated, observation)
"""
HIDDEN: Final = {
    # `make run` is at it.
    "curl http": f"dqn serve --data run &\n{WAIT}",
    ". .venv/bin/activate": "kill %1; wait %1",
    "dqn promote mine": WAIT,
    # Agents have acted, and somebody has trained on.
    "dqn push": f"{WAIT}\ncat > agents.py <<'EOF'\n{EPISODES}EOF\npython agents.py\n"
    "dqn export data/training/mine/last --repository data/policies --policy mine\n"
    # Sealed every half second here.
    "sleep 2",
    "dqn dataset build": "dqn abort mine --why 'seen enough'",
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_readme_s_commands_run(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "run" / "policies")
    promote(tmp_path / "run")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    said = run(ROOT / "README.md", tmp_path, hidden=HIDDEN)
    assert "mine.parquet" in said

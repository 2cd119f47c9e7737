"""The agents of `dqn run`, on a real service."""

from pathlib import Path

from cli.agents import Agents
from tests import builders
from tests.service.process import process
from tests.service.running import promote, wait_until


def test_every_decision_has_its_outcome_though_agents_are_stopped_amid_an_episode(
    tmp_path: Path,
) -> None:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        url = str(service.client.base_url)
        agents = Agents(url, "cartpole", "CartPole-v1", count=2, steps_per_second=1000.0)
        agents.start()
        wait_until(lambda: agents.tally.episodes >= 1, "an episode ends")
        agents.stop()
        tally = agents.tally
        assert tally.decisions == tally.outcomes > 100
        assert service.metric("dqn_outcomes_total", result="accepted") == tally.outcomes
        assert tally.errors == tally.by_heuristic == 0
        # The one that was cut off is no episode whose return says anything.
        assert len(tally.returns) == tally.episodes


def test_agents_say_what_is_wrong_and_go_on_trying(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        url = str(service.client.base_url)
        agents = Agents(url, "pong", "CartPole-v1", count=1, steps_per_second=1000.0)
        agents.start()
        wait_until(lambda: agents.tally.errors >= 2, "it is refused, and again")
        agents.stop()
        assert "pong" in agents.tally.sentence(0.0)
        assert agents.tally.decisions == 0

"""The two stories, command by command, against what they tell of."""

import secrets
from pathlib import Path

import httpx
import pytest

from contract.ledger import LEDGER_FILE, Entry, FileLedger
from recorder.audit import audit_shards
from tests import builders
from tests.docs.pages import ROOT, run
from tests.docs.site import EPISODE_STEPS, Site, site, wait_until

STORIES = ROOT / "docs" / "stories"
SPOOL_BYTES = 1_100_000
ORDERS = {"promote", "canary", "pause", "resume", "abort", "rollback"}
SHARE = 'dqn_canary_share{policy="cartpole"}'
RECENT = 'dqn_episode_return_recent_mean{policy="cartpole",variant="stable"}'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_fall_of_reward_is_found_and_mended(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.write_versions()
        here.start()
        here.call("promote", version=1, first=True, why="the first version")
        here.act()
        wait_until(lambda: here.metric("8001", RECENT) > 55.0, "version 1 does well")
        here.call("promote", version=2, why="a simpler rule, quick to explain")
        wait_until(lambda: 0.0 < here.metric("8001", RECENT) < 49.9, "RewardLow's condition holds")
        run(STORIES / "reward-fell.md", tmp_path, ports=here.ports)
    actions = [entry.action for entry in entries_of(here) if entry.action != "load"]
    assert actions == ["promote", "promote", "rollback", "freeze", "unfreeze"]


def test_a_dead_redis_and_a_full_spool_lose_nothing_and_decide_nothing(tmp_path: Path) -> None:
    plan = {"stages": [{"share": 0.1}], "return_range": [0, EPISODE_STEPS]}
    with site(tmp_path, has_redis=True) as here:
        here.write_versions()
        redis = here.start_redis()
        here.start(DQN_SERVE_SPOOL_MAX_BYTES=str(SPOOL_BYTES))
        here.call("promote", version=1, first=True, why="the first version")
        agents = here.act()
        here.call("canary", version=3, plan=plan, why="a trial")
        wait_until(lambda: here.metric("8000", SHARE) == 0.1, "the trial is under way")
        redis.kill()
        redis.wait()
        fill_spool(here)
        run(STORIES / "redis-died.md", tmp_path, ports=here.ports)
        done = agents.num_episodes
        wait_until(lambda: agents.num_episodes > done, "agents' ends are accepted again")
    actions = [each.action for each in entries_of(here) if each.action in ORDERS]
    assert actions == ["promote", "canary", "pause", "resume"]
    # The page has looked for gaps; what agents reported since then is on its way.
    audit = audit_shards(tmp_path / "data" / "shards")
    assert not any(each.doubled for each in audit.producers)
    assert sum(each.records for each in audit.producers) > SPOOL_BYTES / 1000


def fill_spool(here: Site) -> None:
    """Report until nothing more is accepted, as many agents do within hours."""
    with httpx.Client(base_url=here.url, timeout=60.0) as client:
        while True:
            reports = [
                {"decision_id": secrets.token_hex(60), "reward": 1.0, "policy": builders.POLICY}
                for _ in range(1000)
            ]
            status = client.post("/v1/outcomes", json={"outcomes": reports}).status_code
            if status == 507:
                return
            assert status == 200


def entries_of(here: Site) -> list[Entry]:
    return FileLedger(here.folder / "data" / "policies" / LEDGER_FILE).read_after(0)

import asyncio
from pathlib import Path

import pytest

from contract.ledger import Entry, FileLedger
from contract.rollout import PolicyState
from service.errors import ConflictError
from service.rollout.rollout import Rollout


def entry(action: str, version: int | None = None, policy: str = "p") -> Entry:
    return Entry(action=action, policy=policy, version=version, who="w", why="y")


def test_a_change_is_allowed_or_not_on_the_state_it_is_appended_to(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"

    async def scenario() -> None:
        here, there = Rollout(FileLedger(ledger)), Rollout(FileLedger(ledger))
        seen = []

        def allow(state: PolicyState) -> None:
            seen.append(state.stable)
            if len(seen) == 1:
                # Somebody else is quicker, between this look and the append.
                FileLedger(ledger).append(entry("promote", 4), after=0)

        await here.change(entry("promote", 5), allow)
        assert seen == [None, 4]
        await there.catch_up()
        assert there.state("p") == here.state("p")
        assert (there.state("p").stable, there.state("p").previous) == (5, 4)

    asyncio.run(scenario())


def test_what_is_not_allowed_is_not_appended(tmp_path: Path) -> None:
    def refuse(state: PolicyState) -> None:
        raise ConflictError("no")

    async def scenario() -> None:
        rollout = Rollout(FileLedger(tmp_path / "ledger.jsonl"))
        with pytest.raises(ConflictError):
            await rollout.change(entry("pin"), refuse)
        await rollout.catch_up()
        assert rollout.entries == []

    asyncio.run(scenario())

import asyncio
from pathlib import Path

import pytest

from contract.ledger import Entry, FileLedger
from service.errors import ConflictError
from service.rollout.rollout import Rollout
from service.rollout.state import PolicyState, fold


def entry(action: str, version: int | None = None, policy: str = "p") -> Entry:
    return Entry(action=action, policy=policy, version=version, who="w", why="y", at=action)


def folded(*entries: Entry) -> PolicyState:
    return fold(entries, {})["p"]


def test_stable_and_previous_follow_promotions_and_rollbacks() -> None:
    state = folded(entry("promote", 1), entry("promote", 2), entry("promote", 5))
    assert (state.stable, state.previous) == (5, 2)
    state = folded(entry("promote", 1), entry("promote", 2), entry("rollback", 1))
    assert (state.stable, state.previous, state.changed_at) == (1, 2, "rollback")


def test_pins_and_freezes_are_lifted_by_their_opposites_alone() -> None:
    state = folded(entry("pin"), entry("freeze"), entry("promote", 1))
    assert (state.is_pinned, state.is_frozen, state.stable) == (True, True, 1)
    state = folded(entry("pin"), entry("freeze"), entry("unpin"))
    assert (state.is_pinned, state.is_frozen) == (False, True)
    assert not folded(entry("freeze"), entry("unfreeze")).is_frozen


def test_facts_and_other_policies_change_nothing() -> None:
    before = {"p": folded(entry("promote", 1))}
    after = fold([entry("load", 1), entry("load_failed", 2), entry("unheard of", 3)], before)
    assert after == before
    other = fold([entry("promote", 7, policy="q")], before)
    assert other["p"] == before["p"]
    assert other["q"].stable == 7


def test_a_fold_may_be_cut_anywhere() -> None:
    entries = [entry("promote", 1), entry("pin"), entry("promote", 2), entry("unpin")]
    whole = fold(entries, {})
    for cut in range(len(entries)):
        assert fold(entries[cut:], fold(entries[:cut], {})) == whole


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

"""Two versions that answer otherwise serve side by side: version 1 says left, version 2 right."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from contract.assignment import assign
from contract.decided import decided_rows
from contract.fold import fold
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.plan import RolloutPlan
from contract.records import DecisionBatch, decode_record
from contract.segments import read_records
from dqn_client.episodes import new_episode_id
from tests import builders
from tests.service import models
from tests.service.running import Running, promote, running, settings_for, wait_until

LEFT = [0.0, 0.0, -0.1, 0.0]


def write_versions(data: Path) -> None:
    repository = data / "policies"
    builders.write_policy(repository)
    builders.write_policy(
        repository, weights=builders.WEIGHTS[::-1], bias=builders.BIAS[::-1], version=2
    )


def write(data: Path, action: str, version: int | None = None, **details: Any) -> None:
    entry = Entry(
        action=action,
        policy="cartpole",
        version=version,
        who="test",
        why="a test",
        details=details,
    )
    append_latest(FileLedger(data / "policies" / LEDGER_FILE), entry)


def begin_canary(data: Path, share: float, version: int = 2) -> None:
    plan = RolloutPlan(stages=({"share": share},))
    write(data, "canary", version, rollout_id="r1", plan=plan.model_dump(mode="json"))


def ids_of(data: Path, variant: str, count: int, began_at: float | None = None) -> list[str]:
    """Ids of episodes that are a variant's, beginning when the canary is in force."""
    state = fold(FileLedger(data / "policies" / LEDGER_FILE).read_after(0), {})["cartpole"]
    began_at = state.splits[-1].effective_at + 0.001 if began_at is None else began_at
    found: list[str] = []
    while len(found) < count:
        name = new_episode_id(began_at)
        if assign(state.splits, name, began_at).variant == variant:
            found.append(name)
    return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    write_versions(tmp_path)
    promote(tmp_path)
    with running(settings_for(tmp_path)) as started:
        wait_until(lambda: answered(started, [])["version"] == 1, "version 1 serves")
        yield started


def answered(service: Running, episode_ids: list[str], **fields: Any) -> dict[str, Any]:
    """Who answered one row."""
    given = {"episode_ids": episode_ids} if episode_ids else {}
    body = service.act([LEFT], **given, **fields).json()
    (who,) = body["answered_by"]
    assert isinstance(who, dict)
    return who | {"action": body["actions"][0]}


def by_version(service: Running, name: str) -> int:
    version: int = answered(service, [name])["version"]
    return version


def test_rows_of_one_request_are_answered_by_the_versions_they_belong_to(
    service: Running, tmp_path: Path
) -> None:
    begin_canary(tmp_path, 0.5)
    stable, canary = ids_of(tmp_path, "stable", 3), ids_of(tmp_path, "canary", 3)
    wait_until(lambda: by_version(service, canary[0]) == 2, "the canary answers")
    names = [canary[0], stable[0], canary[1], stable[1], stable[2], canary[2]]
    body = service.act([LEFT] * 6, episode_ids=names, include_q_values=True).json()
    # Version 2 is version 1 the other way round.
    assert body["actions"] == [1, 0, 1, 0, 0, 1]
    who = [body["answered_by"][entry] for entry in body["answered_by_index"]]
    assert [each["version"] for each in who] == [2, 1, 2, 1, 1, 2]
    assert [each["variant"] for each in who] == [
        "canary",
        "stable",
        "canary",
        "stable",
        "stable",
        "canary",
    ]
    assert [int(np.argmax(row)) for row in body["q_values"]] == body["actions"]
    labels = {"policy": "cartpole", "source": "model", "reason": "none"}
    assert service.metric("dqn_decisions_total", variant="canary", **labels) >= 3
    assert service.metric("dqn_canary_share", policy="cartpole") == 0.5
    info = {"policy": "cartpole", "variant": "canary", "version": "2"}
    assert service.metric("dqn_policy_info", **info) == 1


def test_the_log_says_by_what_salt_an_episode_was_assigned(
    service: Running, tmp_path: Path
) -> None:
    answered(service, ["before"])
    begin_canary(tmp_path, 0.5)
    (stable,), (canary,) = ids_of(tmp_path, "stable", 1), ids_of(tmp_path, "canary", 1)
    wait_until(lambda: by_version(service, canary) == 2, "the canary answers")
    answered(service, [stable])

    def salts() -> dict[str | None, str | None]:
        return {
            episode_id: decided.circumstances.salt
            for _, content in read_records(service.server.spool.folder)
            if isinstance(record := decode_record(content), DecisionBatch)
            for episode_id, _, decided in decided_rows(record)
        }

    wait_until(lambda: stable in salts(), "the decisions are in the log")
    found = salts()
    assert (found["before"], found[stable], found[canary]) == (None, "r1", "r1")


def test_records_of_the_hour_after_a_promotion_have_no_column_of_salts(
    service: Running, tmp_path: Path
) -> None:
    old, new = new_episode_id(time.time() - 30), new_episode_id(time.time() + 30)
    promote(tmp_path, version=2)
    wait_until(lambda: by_version(service, new) == 2, "the promoted version answers")
    assert by_version(service, old) == 1

    def records() -> list[DecisionBatch]:
        read = [decode_record(content) for _, content in read_records(service.server.spool.folder)]
        return [record for record in read if isinstance(record, DecisionBatch)]

    wait_until(lambda: any(old in each.episode_ids for each in records()), "it is in the log")
    # Both versions answer, which is a split; on trial is nothing.
    assert [each.salts for each in records()] == [None] * len(records())


def test_an_episode_stays_with_its_version_through_promotion_and_leaves_it_at_a_rollback(
    service: Running, tmp_path: Path
) -> None:
    old = new_episode_id(time.time() - 30)
    begin_canary(tmp_path, 0.5)
    (stable,), (canary,) = ids_of(tmp_path, "stable", 1), ids_of(tmp_path, "canary", 1)
    wait_until(lambda: by_version(service, canary) == 2, "the canary answers")
    assert (by_version(service, old), by_version(service, stable)) == (1, 1)
    promote(tmp_path, 2)
    wait_until(lambda: answered(service, [])["version"] == 2, "version 2 is stable")
    assert [by_version(service, name) for name in (old, stable, canary)] == [1, 1, 2]
    wait_until(lambda: by_version(service, new_episode_id()) == 2, "new episodes are version 2's")
    write(tmp_path, "rollback", 1)
    wait_until(lambda: answered(service, [])["version"] == 1, "version 1 is stable again")
    assert [by_version(service, name) for name in (old, stable, canary)] == [1, 1, 1]


def test_episodes_of_a_canary_that_was_aborted_finish_on_stable(
    service: Running, tmp_path: Path
) -> None:
    begin_canary(tmp_path, 0.5)
    (canary,) = ids_of(tmp_path, "canary", 1)
    wait_until(lambda: by_version(service, canary) == 2, "the canary answers")
    write(tmp_path, "abort", rollout_id="r1", outcome="rolled_back")
    wait_until(lambda: by_version(service, canary) == 1, "stable answers")
    assert answered(service, [canary])["variant"] == "stable"


def test_rows_without_an_episode_are_stable_s(service: Running, tmp_path: Path) -> None:
    begin_canary(tmp_path, 0.99)
    (canary,) = ids_of(tmp_path, "canary", 1)
    wait_until(lambda: by_version(service, canary) == 2, "the canary answers")
    assert {answered(service, [])["version"] for _ in range(50)} == {1}


def test_an_id_without_a_time_counts_from_when_it_is_first_seen(
    service: Running, tmp_path: Path
) -> None:
    begin_canary(tmp_path, 0.99)
    (canary,) = ids_of(tmp_path, "canary", 1)
    wait_until(lambda: by_version(service, canary) == 2, "the canary answers")
    time.sleep(1.1)
    new = [answered(service, [f"agent-{n}"], steps=[0])["version"] for n in range(20)]
    assert 2 in new
    # One that is met in the midst of it began before the canary did.
    late = [answered(service, [f"other-{n}"], steps=[7])["version"] for n in range(20)]
    assert set(late) == {1}
    # Unless the agent says when it did.
    for began_at, versions in ((time.time(), {1, 2}), (time.time() - 60, {1})):
        told = {
            answered(service, [f"told-{n}-{began_at}"], steps=[7], started_at=[began_at])["version"]
            for n in range(20)
        }
        assert told <= versions
        assert max(told) == max(versions)


def test_a_canary_that_answers_nan_is_taken_off_and_the_others_are_told(tmp_path: Path) -> None:
    repository = tmp_path / "policies"
    builders.write_policy(repository)
    models.write_model(repository, models.root_model(), version=2, golden=models.root_golden())
    promote(tmp_path)
    with running(settings_for(tmp_path)) as service:
        wait_until(lambda: answered(service, [])["version"] == 1, "version 1 serves")
        begin_canary(tmp_path, 0.5)
        stable, canary = ids_of(tmp_path, "stable", 1), ids_of(tmp_path, "canary", 40)
        wait_until(lambda: by_version(service, canary[0]) == 2, "the canary answers")
        service.act([LEFT] * 1000, episode_ids=stable * 1000)
        poison = [[-1.0, 4.0, 0.0, 0.0]]
        sources = []
        for name in canary:
            (who,) = service.act(poison, episode_ids=[name]).json()["answered_by"]
            sources.append((who["version"], who["source"], who["reason"]))
        foul = [each for each in sources if each == (2, "heuristic", "non_finite")]
        assert 1 <= len(foul) <= 5
        assert sources[len(foul) :] == [(1, "model", None)] * (40 - len(foul))
        ledger = FileLedger(tmp_path / "policies" / LEDGER_FILE)
        wait_until(lambda: ledger.read_after(0)[-1].action == "guardrail", "the ledger is told")
        last = ledger.read_after(0)[-1]
        assert last.why.startswith(
            "guardrail nonfinite: 3 of the canary's 4 rows here, 0 of stable's"
        )
        assert last.details["rollout_id"] == "r1"
        state = fold(ledger.read_after(0), {})["cartpole"]
        assert state.rollout is not None
        assert state.rollout.outcome == "rolled_back"


def test_a_canary_whose_calls_outlast_their_deadline_is_taken_off(tmp_path: Path) -> None:
    repository = tmp_path / "policies"
    builders.write_policy(repository)
    models.write_model(repository, models.slow_model(layers=200), version=2)
    promote(tmp_path)
    with running(settings_for(tmp_path)) as service:
        wait_until(lambda: answered(service, [])["version"] == 1, "version 1 serves")
        begin_canary(tmp_path, 0.5)
        (stable,), (canary,) = ids_of(tmp_path, "stable", 1), ids_of(tmp_path, "canary", 1)
        wait_until(lambda: by_version(service, canary) == 2, "the canary answers")

        def is_off() -> bool:
            # Side by side: the call of the canary is long, and stable waits for it.
            both = service.act([LEFT] * 2, episode_ids=[stable, canary], deadline_ms=5).json()
            answered(service, [stable], deadline_ms=5)
            return {each["version"] for each in both["answered_by"]} == {1}

        wait_until(is_off, "stable answers its episodes")
        ledger = FileLedger(tmp_path / "policies" / LEDGER_FILE)
        wait_until(lambda: ledger.read_after(0)[-1].action == "guardrail", "the ledger is told")
        assert ledger.read_after(0)[-1].details["guardrail"] == "deadline"


def test_a_shadow_answers_nothing_and_its_disagreement_is_counted(
    service: Running, tmp_path: Path
) -> None:
    write(tmp_path, "shadow", 2, share=1.0)

    def rows() -> float:
        service.act([LEFT])
        return service.metric("dqn_shadow_rows_total", policy="cartpole")

    wait_until(lambda: rows() >= 3, "the shadow has seen some")
    disagreements = service.metric("dqn_shadow_disagreements_total", policy="cartpole")
    assert disagreements == service.metric("dqn_shadow_rows_total", policy="cartpole")
    assert service.metric("dqn_shadow_fallbacks_total", policy="cartpole") == 0
    assert answered(service, [])["version"] == 1


def test_ids_of_the_client_are_uuids() -> None:
    assert UUID(new_episode_id()).version == 7

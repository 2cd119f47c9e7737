import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.bundle import read_bundle
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from dqn_client import Client
from recorder.dataset.parts import compact
from recorder.dataset.quarantine import add_quarantine
from recorder.dataset.store import DatasetStore
from retraining.cycle import REPORT_FILE, Cycle
from retraining.state import CycleError, CycleState, Stage, only_cycle, read_states, write_state
from retraining.versions import network_sha256
from tests.builders import POLICY
from tests.recorder.dataset.episodes import Log, built
from tests.retraining.serving import (
    BEGIN,
    EPISODES,
    LENIENT,
    STRICT,
    config,
    episode,
    seal_episodes,
    write_version,
)
from tests.service.running import Running, promote, running, settings_for, wait_until

NOW = BEGIN + 1e6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with one version, its checkpoint and a log of sixty episodes."""
    data = tmp_path_factory.mktemp("served")
    write_version(data)
    seal_episodes(data, [episode(number) for number in range(EPISODES)])
    return data


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it, whose first version is stable."""
    copied = tmp_path / "data"
    shutil.copytree(prepared, copied)
    promote(copied)
    return copied


@pytest.fixture
def service(data: Path) -> Iterator[Running]:
    with running(settings_for(data)) as started:
        wait_until(lambda: stands(started)["stable"] == 1, "version 1")
        yield started


class Interrupted(BaseException):
    """The process dies here."""


def stands(service: Running) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get(f"/v1/policies/{POLICY}/rollout").json()
    return found


def actions_in(service: Running) -> list[str]:
    """What was done to the policy, in order."""
    entries = service.client.get(f"/v1/policies/{POLICY}/ledger").json()["entries"]
    done = ("promote", "register", "shadow", "canary", "freeze")
    return [entry["action"] for entry in entries if entry["action"] in done]


def run(
    service: Running, data: Path, *, dies_at: Stage | None = None, **changes: Any
) -> CycleState | None:
    """A cycle from its beginning, or from where the last one died, to its end or the next death."""

    def enter(stage: Stage) -> None:
        if stage == dies_at:
            raise Interrupted

    with Client(str(service.client.base_url), timeout_seconds=60.0) as client:
        cycle = Cycle(config(data, **changes), client, lambda: NOW, lambda _: None, enter=enter)
        return cycle.run()


def write_entry(data: Path, action: str, version: int | None = None) -> None:
    ledger = FileLedger(data / "policies" / LEDGER_FILE)
    entry = Entry(action=action, policy=POLICY, version=version, who="test", why="to see")
    append_latest(ledger, entry)


def test_a_log_becomes_a_version_on_trial_with_its_whole_lineage(
    service: Running, data: Path
) -> None:
    state = run(service, data)
    assert state is not None
    assert (state.outcome, state.version, state.parent) == ("canary", 2, 1)
    assert (stands(service)["canary"], stands(service)["shadow"]) == (2, None)
    assert actions_in(service) == ["promote", "register", "shadow", "shadow", "canary"]
    bundle = read_bundle(data / "policies" / POLICY / "2")
    lineage = bundle.manifest.lineage
    candidate = data / "retraining" / POLICY / state.cycle_id / "candidate"
    assert lineage.checkpoint_sha256 == state.checkpoint_sha256 == network_sha256(candidate)
    assert (lineage.source, lineage.dataset_sha256) == ("retraining", state.dataset_sha256)
    assert (bundle.manifest.parent, bundle.manifest_sha256) == (1, state.bundle_sha256)
    runs = [(alpha, updates) for alpha, updates, _ in state.candidates]
    assert runs == [(0.5, 30), (0.5, 60), (None, 20), (None, 40)]
    report = (candidate.parent / REPORT_FILE).read_text()
    for told in (state.dataset_sha256, state.checkpoint_sha256, state.bundle_sha256, "chosen"):
        assert str(told) in report
    with pytest.raises(CycleError, match="is on trial"):
        run(service, data)


def test_a_candidate_that_learned_nothing_ships_nothing(service: Running, data: Path) -> None:
    state = run(service, data, limits=STRICT)
    assert state is not None
    assert (state.outcome, state.version) == ("blocked", None)
    assert "learned nothing worth shipping" in state.sentence
    assert actions_in(service) == ["promote"]
    assert not (data / "policies" / POLICY / "2").exists()


def test_a_dry_run_comes_to_a_verdict_and_changes_nothing(service: Running, data: Path) -> None:
    state = run(service, data, dry_run=True)
    assert state is not None
    assert state.outcome == "dry_run"
    assert state.verdict is not None
    assert actions_in(service) == ["promote"]
    assert not (data / "policies" / POLICY / "2").exists()


def test_a_cycle_that_dies_before_each_stage_does_each_thing_once(
    service: Running, data: Path
) -> None:
    stages: tuple[Stage, ...] = ("learn", "judge", "export", "register", "shadow", "canary")
    for stage in stages:
        with pytest.raises(Interrupted):
            run(service, data, dies_at=stage)
    state = run(service, data)
    assert state is not None
    assert (state.outcome, state.version) == ("canary", 2)
    assert actions_in(service) == ["promote", "register", "shadow", "shadow", "canary"]
    assert len(read_states(data / "retraining" / POLICY)) == 1


def test_what_was_done_and_not_yet_noted_is_found_and_not_done_again(
    service: Running, data: Path
) -> None:
    for stage in ("register", "shadow"):
        with pytest.raises(Interrupted):
            run(service, data, dies_at=stage)
        # As if the process had died after the work and before its note.
        folder = data / "retraining" / POLICY
        (state,) = read_states(folder)
        before: Stage = "export" if stage == "register" else "register"
        write_state(folder, state.model_copy(update={"stage": before}))
    last = run(service, data)
    assert last is not None
    assert last.version == 2
    assert not (data / "policies" / POLICY / "3").exists()
    assert actions_in(service) == ["promote", "register", "shadow", "shadow", "canary"]


def test_what_is_built_while_a_cycle_learns_is_the_next_cycles(
    service: Running, data: Path
) -> None:
    with pytest.raises(Interrupted):
        run(service, data, dies_at="judge", dry_run=True)
    (before,) = read_states(data / "retraining" / POLICY)
    # It began before the cycle did, and is built after that has collected.
    log = Log(data / "shards", sequence=10**6)
    log.seal(episode(EPISODES))
    store = DatasetStore(data / "datasets")
    assert [part.num_episodes for part in built(log, store).parts] == [1]
    state = run(service, data, dies_at="collect", dry_run=True)
    assert state is not None
    assert (state.outcome, state.dataset_sha256) == ("dry_run", before.dataset_sha256)


def test_parts_that_are_joined_while_a_cycle_learns_do_not_begin_it_anew(
    service: Running, data: Path
) -> None:
    log, store = Log(data / "shards", sequence=10**6), DatasetStore(data / "datasets")
    log.seal(episode(EPISODES))
    built(log, store)
    entered: list[Stage] = []

    def enter(stage: Stage) -> None:
        entered.append(stage)
        assert stage == "collect" or len(compact(store, POLICY, NOW)) == (stage == "learn")

    with Client(str(service.client.base_url), timeout_seconds=60.0) as client:
        cycle = Cycle(config(data, dry_run=True), client, lambda: NOW, lambda _: None, enter=enter)
        state = cycle.run()
    assert state is not None
    assert (state.outcome, entered) == ("dry_run", ["collect", "learn", "judge"])


def test_what_is_quarantined_while_a_cycle_learns_is_not_judged_by(
    service: Running, data: Path
) -> None:
    with pytest.raises(Interrupted):
        run(service, data, dies_at="judge", dry_run=True)
    (before,) = read_states(data / "retraining" / POLICY)
    begin = BEGIN + 1000 * 7
    add_quarantine(
        DatasetStore(data / "datasets"),
        POLICY,
        begin=begin,
        end=begin + 1,
        who="test",
        why="a sensor was off",
        now=NOW,
    )
    state = run(service, data, dry_run=True)
    assert state is not None
    assert state.num_episodes == before.num_episodes - 1


def test_a_freeze_holds_a_cycle_until_it_is_lifted(service: Running, data: Path) -> None:
    with pytest.raises(Interrupted):
        run(service, data, dies_at="export")
    write_entry(data, "freeze")
    wait_until(lambda: stands(service)["frozen"], "the freeze")
    with pytest.raises(CycleError, match="is frozen"):
        run(service, data)
    assert not (data / "policies" / POLICY / "2").exists()
    write_entry(data, "unfreeze")
    wait_until(lambda: not stands(service)["frozen"], "its end")
    state = run(service, data)
    assert state is not None
    assert state.outcome == "canary"


def test_a_log_that_does_not_fit_the_policy_is_not_learned_from(
    service: Running, data: Path
) -> None:
    shutil.rmtree(data / "datasets")
    shutil.rmtree(data / "shards")
    honest = [episode(number) for number in range(40)]
    poisoned = [episode(number, shift=0.3) for number in range(40, 60)]
    seal_episodes(data, [*honest, *poisoned])
    state = run(service, data)
    assert state is not None
    assert (state.outcome, state.suspicious["q_values_differ"]) == ("quarantined", 20)
    assert "33% of the episodes do not fit the policy" in state.sentence
    assert actions_in(service) == ["promote"]


def test_only_one_cycle_of_a_policy_runs_and_none_without_anything_new(
    service: Running, data: Path
) -> None:
    with only_cycle(data / "retraining" / POLICY), pytest.raises(CycleError, match="another cycle"):
        run(service, data)
    assert run(service, data, least_new_steps=10**9) is None
    assert read_states(data / "retraining" / POLICY) == []


def test_a_request_in_the_ledger_is_followed_however_little_is_new(
    service: Running, data: Path
) -> None:
    write_entry(data, "retrain")
    state = run(service, data, least_new_steps=10**9, limits=STRICT)
    assert state is not None
    assert state.outcome == "blocked"


def test_steps_that_a_dry_run_saw_are_new_to_the_cycle_that_may_ship(
    service: Running, data: Path
) -> None:
    run(service, data, dry_run=True)
    state = run(service, data)
    assert state is not None
    assert state.outcome == "canary"


def test_what_the_gate_is_unsure_of_looks_on_unless_a_hundredth_is_allowed(
    service: Running, data: Path
) -> None:
    unsure = LENIENT.model_copy(update={"least_propensity": 1.0, "unsupported_share": 0.5})
    state = run(service, data, limits=unsure, canary_when_inconclusive=True)
    assert state is not None
    assert state.verdict is not None
    assert (state.verdict.decision, state.outcome) == ("inconclusive", "canary")
    entries = service.client.get(f"/v1/policies/{POLICY}/ledger").json()["entries"]
    (plan,) = [entry["details"]["plan"] for entry in entries if entry["action"] == "canary"]
    assert ([stage["share"] for stage in plan["stages"]], plan["mode"]) == ([0.01], "guard")

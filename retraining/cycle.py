"""One cycle: a sealed dataset becomes a candidate, a verdict, a version and a canary.

Every stage ends with the state on disk and can be done again: what it wrote is found by its hash,
and calls to the server carry a key of the cycle's. Before each stage the server is asked how things
stand: a freeze holds the cycle, and another stable version ends it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from contract.bundle import BundleError, read_bundle
from contract.declaration import DeclarationError
from contract.files import replace_file
from contract.plan import RolloutPlan
from contract.plan import Stage as TrialStage
from dqn_client import Client
from exporter.config import ExportConfig
from exporter.export import export
from exporter.verify import ParityError
from recorder.dataset.manifest import DatasetError
from retraining.config import RetrainConfig
from retraining.distributed import learn_together
from retraining.importance import whole_episodes
from retraining.learning import judge, learn_candidate
from retraining.operator import Operator
from retraining.pictures import draw_learning, draw_verdict
from retraining.report import render_report
from retraining.sources import Sources
from retraining.state import CycleState, HeldError, Stage, only_cycle, read_states, write_state
from retraining.versions import exported_version, network_sha256, remove_expired
from training.checkpoint import Checkpoint
from training.evaluate import evaluate_checkpoint

REPORT_FILE = "report.md"

CAUTIOUS = RolloutPlan(stages=(TrialStage(share=0.01),), mode="guard")
"""For a candidate that the gate is not sure of: it stays at a hundredth until a person decides."""

_EPISODE_MARGIN = 1.5
"""Over what the gate needs: some of those that are drawn for it may be torn."""

Say = Callable[[str], None]


class Cycle:
    """Does the stages of one policy's cycles, one after another.

    Args:
        config: What to do.
        client: Speaks to the service with a key of the scopes `read` and `submit`.
        clock: Unix seconds.
        sleep: Waits for so many seconds.
        say: Told what is being done.
        enter: Told which stage begins.
    """

    def __init__(
        self,
        config: RetrainConfig,
        client: Client,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        say: Say = lambda _: None,
        enter: Callable[[Stage], None] = lambda _: None,
    ) -> None:
        self._config, self._operator = config, Operator(client, config.policy)
        self._clock, self._sleep, self._say, self._enter = clock, sleep, say, enter
        self._sources = Sources(config)
        self._stages: dict[Stage, Callable[[CycleState], CycleState]] = {
            "collect": self._collect,
            "learn": self._learn,
            "judge": self._judge,
            "export": self._export,
            "register": self._register,
            "shadow": self._shadow,
            "canary": self._canary,
        }

    def run(self) -> CycleState | None:
        """Go on with the cycle that was cut off, or begin one; None where there is too little new.

        Raises:
            HeldError: A trial is under way, or the policy is frozen.
            CycleError, ClientError: It cannot go on now; what is done stays done.
        """
        with only_cycle(self._config.folder):
            states = read_states(self._config.folder)
            if states and not states[-1].is_over:
                state: CycleState | None = states[-1]
            else:
                state = self._begin(states)
            if state is None:
                return None
            while not state.is_over:
                state = self._step(state)
                if state.stage not in ("learn", "judge"):
                    self._sources.let_go()
                write_state(self._config.folder, state)
                self._report(state)
            if not state.is_dry_run:
                self._remove_expired()
            return state

    def is_asked(self) -> bool:
        """Whether the ledger holds a request that no cycle has followed yet.

        Raises:
            ClientError: The service refused, or could not be reached.
        """
        states = read_states(self._config.folder)
        return self._operator.is_asked(states[-1].started_at if states else 0.0)

    def _begin(self, states: list[CycleState]) -> CycleState | None:
        stands = self._operator.stands()
        if stands["canary"] is not None:
            raise HeldError(
                f"version {stands['canary']} of {self._config.policy} is on trial: a cycle begins "
                "once it is over"
            )
        now = self._clock()
        # A dry run leaves its steps to the cycle that may ship.
        since = max((each.started_at for each in states if not each.is_dry_run), default=0.0)
        num_new = self._sources.num_steps(since)
        is_asked = self._operator.is_asked(since)
        if num_new < self._config.least_new_steps and not is_asked:
            self._say(f"{num_new} new steps are sealed, {self._config.least_new_steps} are needed")
            return None
        name = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        state = CycleState(
            cycle_id=f"{name}-{len(states):04d}",
            policy=self._config.policy,
            started_at=now,
            seed=self._config.seed + len(states),
            is_dry_run=self._config.dry_run,
            parent=stands["stable"],
        )
        write_state(self._config.folder, state)
        return state

    def _step(self, state: CycleState) -> CycleState:
        stands = self._operator.stands()
        if state.version is not None and state.version in (stands["canary"], stands["stable"]):
            return self._over(state, outcome="canary", sentence=_on_trial(state.version))
        if stands["stable"] != state.parent:
            sentence = f"stable is version {stands['stable']} by now, not {state.parent}"
            return self._over(state, outcome="overtaken", sentence=sentence)
        self._say(f"{state.cycle_id}: {state.stage}")
        self._enter(state.stage)
        return self._stages[state.stage](state)

    def _collect(self, state: CycleState) -> CycleState:
        config, state = self._config, _with(state, dataset_parts=None)
        try:
            dataset = self._sources.dataset(state)
            reading = self._sources.read(state, dataset)
        except DatasetError as error:
            return self._over(state, outcome="too_little", sentence=str(error))
        state = _with(
            state,
            dataset_id=dataset.dataset_id,
            dataset_sha256=dataset.sha256,
            dataset_parts=tuple(part.part_id for part in dataset.manifests),
            num_steps=len(reading.recent.actions),
            num_episodes=reading.num_episodes,
            suspicious=reading.suspicious,
        )
        if reading.suspicious_share > config.suspicious_share:
            return self._over(state, outcome="quarantined", sentence=reading.warning)
        least = config.limits.least_episodes / min(config.held_out_share, 1 - config.held_out_share)
        num_whole = len(whole_episodes(reading.recent))
        if num_whole < _EPISODE_MARGIN * least:
            sentence = f"{num_whole} whole episodes, {_EPISODE_MARGIN * least:.0f} are needed"
            return self._over(state, outcome="too_little", sentence=sentence)
        return _with(state, stage="learn")

    def _learn(self, state: CycleState) -> CycleState:
        reading = self._sources.read_again(state)
        if reading is None:
            return _with(state, stage="collect")
        folder, parent = self._sources.candidate_folder(state), self._sources.parent(state)
        try:
            found = (
                learn_candidate(self._config, parent, reading, state.seed, folder)
                if self._config.processes == 1
                else learn_together(self._config, state)
            )
        except ValueError as error:
            return self._over(state, outcome="refused", sentence=str(error))
        state = _with(state, candidates=found.candidates, diverged=found.diverged)
        if found.chosen is None:
            sentence = "no candidate has learned anything that could be true"
            return self._over(state, outcome="diverged", sentence=sentence)
        return _with(
            state,
            chosen=found.chosen,
            checkpoint_sha256=network_sha256(folder),
            stage="judge",
        )

    def _judge(self, state: CycleState) -> CycleState:
        reading = self._sources.read_again(state)
        if reading is None:
            return _with(state, stage="collect")
        parent, candidate = self._sources.parent(state), self._sources.candidate(state)
        verdict = judge(self._config, parent, candidate, reading, state.seed)
        state = _with(state, verdict=verdict, simulated_returns=self._simulate(parent, candidate))
        if verdict.decision == "block":
            return self._over(state, outcome="blocked", sentence=verdict.sentence)
        if state.is_dry_run:
            sentence = f"nothing is shipped by a dry run; the gate: {verdict.sentence}"
            return self._over(state, outcome="dry_run", sentence=sentence)
        return _with(state, stage="export")

    def _export(self, state: CycleState) -> CycleState:
        directory = self._config.policy_directory
        version = exported_version(directory, state.checkpoint_sha256 or "")
        if version is None:
            try:
                version = int(export(self._export_config(state), self._say).name)
            except (BundleError, DeclarationError, ParityError) as error:
                return self._over(state, outcome="refused", sentence=str(error))
        bundle = read_bundle(directory / str(version))
        return _with(state, version=version, bundle_sha256=bundle.manifest_sha256, stage="register")

    def _export_config(self, state: CycleState) -> ExportConfig:
        config = self._config
        return ExportConfig(
            checkpoint=self._sources.candidate_folder(state),
            repository=config.data / "policies",
            policy=config.policy,
            parent=state.parent,
            source="retraining",
            dataset_id=state.dataset_id,
            dataset_sha256=state.dataset_sha256,
            profile_episodes=config.profile_episodes,
            profile_observations=config.profile_observations,
            floor_episodes=config.floor_episodes,
            seed=state.seed,
        )

    def _register(self, state: CycleState) -> CycleState:
        self._operator.change(state, "versions", f"made by retraining {state.cycle_id}")
        return _with(state, stage="shadow")

    def _shadow(self, state: CycleState) -> CycleState:
        why = f"retraining {state.cycle_id}: look on first"
        self._operator.change(state, "shadow", why, share=self._config.shadow_share)
        if state.shadow_since is None:
            state = _with(state, shadow_since=self._clock())
            write_state(self._config.folder, state)
        until = (state.shadow_since or 0.0) + self._config.shadow_seconds
        self._sleep(max(0.0, until - self._clock()))
        verdict = state.verdict
        if state.is_inconclusive and not self._config.canary_when_inconclusive:
            told = "" if verdict is None else f": {verdict.sentence}"
            sentence = f"version {state.version} looks on, and a person decides{told}"
            return self._over(state, outcome="shadow", sentence=sentence)
        return _with(state, stage="canary")

    def _canary(self, state: CycleState) -> CycleState:
        verdict = state.verdict
        told = "" if verdict is None else f": {verdict.sentence}"
        why = f"retraining {state.cycle_id}{told}"
        # It answers from now on, so that it need not look on as well.
        self._operator.change(state, "shadow", why, step="shadow-end", share=0.0)
        plan: dict[str, Any] = (
            {"plan": CAUTIOUS.model_dump(mode="json")} if state.is_inconclusive else {}
        )
        self._operator.change(state, "canary", why, **plan)
        return self._over(state, outcome="canary", sentence=_on_trial(state.version))

    def _simulate(self, parent: Checkpoint, candidate: Checkpoint) -> dict[str, float]:
        episodes = self._config.simulated_episodes
        if not episodes:
            return {}
        return {
            name: evaluate_checkpoint(each, episodes, 0.0, self._config.seed).mean_return
            for name, each in (("current", parent), ("candidate", candidate))
        }

    def _over(self, state: CycleState, **changes: Any) -> CycleState:
        return _with(state, stage="done", finished_at=self._clock(), **changes)

    def _report(self, state: CycleState) -> None:
        folder = self._config.folder / state.cycle_id
        for name, picture in (("learning", draw_learning(state)), ("verdict", draw_verdict(state))):
            if picture is not None:
                replace_file(folder / f"{name}.svg", picture.encode())
        replace_file(folder / REPORT_FILE, render_report(state).encode())

    def _remove_expired(self) -> None:
        aliased = self._operator.aliased()
        remove_expired(self._config.policy_directory, aliased, self._config.keep_versions)


def _with(state: CycleState, **changes: Any) -> CycleState:
    return state.model_copy(update=changes)


def _on_trial(version: int | None) -> str:
    return f"version {version} is on trial: the judge's evidence decides"

"""The judge: follows the ledger, weighs each trial, and writes what follows from the evidence.

One recorder judges at a time, by a lease in the ledger. Every append names the position it was
decided at, so that a judge that was overtaken, by another or by an operator, changes nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from contract.evidence import Evidence
from contract.fold import fold
from contract.join import Join
from contract.ledger import Entry, Ledger, LedgerError, LedgerMovedError
from contract.rollout import PolicyState, Rollout
from contract.transitions import Episode, Transition
from recorder.judgement import Ruling, describe, permitted, rule
from recorder.trial import Trial

LEASE_SECONDS: Final = 90.0
_HEARTBEATS: Final = 3
"""So often in a lease a trial under way is noted in the ledger: its evidence, and who judges."""

_log = structlog.get_logger(__name__)


class Judge:
    """Owns the trials under way; a consumer of what the recorder has joined."""

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        who: str,
        tell: Callable[[str, Rollout, Trial, Ruling], None] | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Keeps evidence in `folder`; `tell` is given policy, trial and ruling at each pass."""
        self._ledger = ledger
        self._folder = folder
        self._who = who
        self._tell = tell
        self._lease_seconds = lease_seconds
        self._position = 0
        self._generation = ledger.generation
        self._states: dict[str, PolicyState] = {}
        self._trials: dict[str, Trial] = {}
        self._early: list[Episode] = []
        self._follow()

    def on_transition(self, transition: Transition) -> None:
        """Steps are not judged, episodes are."""

    def on_episode(self, episode: Episode) -> None:
        """An episode has ended."""
        self._early.append(episode)

    def on_pass(self, now: float, join: Join) -> None:
        """Weigh every trial, and do what the evidence asks for and the plan permits."""
        self._follow()
        for policy, state in list(self._states.items()):
            rollout = state.open_rollout
            if rollout is None:
                self._trials.pop(policy, None)
                continue
            trial = self._trial(policy, rollout)
            for episode in self._early:
                if episode.policy == policy:
                    trial.take(episode, state, rollout)
            trial.compare(now, join.episodes_open_since(policy))
            trial.keep()
            try:
                self._weigh(policy, state, rollout, trial, now)
            except LedgerMovedError:
                # Somebody wrote meanwhile: what it means is weighed at the next pass.
                _log.info("judge_overtaken", policy=policy)
            except (LedgerError, OSError) as error:
                _log.error("judge_not_heard", policy=policy, error=str(error))
        self._early.clear()

    def evidence(self, policy: str) -> Evidence:
        """What the open trial of a policy has learned.

        Raises:
            KeyError: None is open.
        """
        return self._trials[policy].evidence

    def _follow(self) -> None:
        try:
            entries = self._ledger.read_after(self._position)
            if self._ledger.generation != self._generation:
                self._generation, self._position, self._states = self._ledger.generation, 0, {}
                entries = self._ledger.read_after(0)
        except (LedgerError, OSError) as error:
            _log.error("ledger_unreadable", error=str(error))
            return
        self._states = fold(entries, self._states)
        self._position += len(entries)

    def _trial(self, policy: str, rollout: Rollout) -> Trial:
        trial = self._trials.get(policy)
        if trial is None or trial.rollout_id != rollout.rollout_id:
            trial = Trial(rollout, self._folder / f"{policy}.json")
            self._trials[policy] = trial
        return trial

    def _weigh(
        self, policy: str, state: PolicyState, rollout: Rollout, trial: Trial, now: float
    ) -> None:
        evidence = trial.evidence
        ruling = rule(rollout, evidence, now)
        if self._tell is not None:
            self._tell(policy, rollout, trial, ruling)
        lease = state.lease
        if lease is not None and lease.holder != self._who and lease.until > now:
            return
        seconds = now - rollout.opened_at
        rate = evidence.num_episodes / seconds if seconds > 0 else None
        sentence = describe(rollout, evidence, ruling, now, rate)
        may_act = permitted(rollout, ruling.step, is_frozen=state.is_frozen)
        is_due = (
            lease is None
            or lease.holder != self._who
            or now - rollout.judged_at >= self._lease_seconds / _HEARTBEATS
            or ruling.verdict != rollout.verdict
        )
        if may_act or is_due:
            said = {"until": now + self._lease_seconds, "verdict": ruling.verdict}
            snapshot = msgspec.json.decode(msgspec.json.encode(evidence.snapshot()))
            if snapshot != rollout.evidence:
                # A heartbeat of an idle night is a short line: the ledger is kept for ever.
                said["evidence"] = snapshot
            self._append("evidence", policy, rollout, sentence, **said)
        if may_act:
            self._act(policy, rollout, ruling, sentence)

    def _act(self, policy: str, rollout: Rollout, ruling: Ruling, sentence: str) -> None:
        match ruling.step:
            case "ramp":
                self._append("stage", policy, rollout, sentence, stage=rollout.stage + 1)
            case "promote":
                plan = rollout.plan
                self._append(
                    "promote",
                    policy,
                    rollout,
                    sentence,
                    holdback_share=plan.holdback_share,
                    return_range=plan.return_range,
                )
            case "roll_back":
                self._append("abort", policy, rollout, sentence, outcome="rolled_back")
            case "invalidate":
                self._append("abort", policy, rollout, sentence, outcome="invalid")
        _log.info("judged", policy=policy, step=ruling.step, why=sentence)

    def _append(self, action: str, policy: str, rollout: Rollout, why: str, **details: Any) -> None:
        entry = Entry(
            action=action,
            policy=policy,
            version=rollout.version,
            who=self._who,
            why=why,
            details={"rollout_id": rollout.rollout_id} | details,
        )
        written = self._ledger.append(entry, after=self._position)
        self._states = fold([written], self._states)
        self._position = written.position

"""Brings the served policies to what the repository and the ledger say, again and again.

Everything slow happens beside the traffic: read in a thread, tried in a child process, warmed in a
thread; then one pointer is swapped. What fails leaves the version in place serving, and is tried
again once its files change.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from contract.bundle import Bundle, BundleError, read_bundle
from contract.declaration import (
    DECLARATION_FILE,
    DeclarationError,
    PolicyDeclaration,
    read_declaration,
)
from contract.heuristics import refuse_unlisted
from contract.ledger import Entry, LedgerError
from contract.records import AnsweredBy
from contract.replicas import Replica, Replicas
from contract.rollout import PolicyState
from service.inference.cost import CostModel
from service.inference.live import Live
from service.inference.policy import Policy, Provider
from service.inference.proof import check_declared, prove, prove_in_child
from service.inference.served import ServedPolicy
from service.metrics import Metrics
from service.rollout.conduct import CONDUCT_SECONDS, Conduct
from service.rollout.ledger_gauges import LedgerGauges
from service.rollout.rollout import Rollout

Stamp = tuple[tuple[str, int, int], ...]
"""Name, modification time and size of a bundle's files: another stamp is worth another try."""

_INLINE_SECONDS: Final = 0.001
"""A model that takes longer over 64 rows leaves the event loop to its own thread."""
_LEAST_TRIALS: Final = 3
_MOST_TRIALS: Final = 25
_TRIAL_SECONDS: Final = 0.05
"""After so long a model's time is known well enough."""

_MOST_WARM: Final = 6
"""Versions of one policy that are held in memory, at most."""

_log = structlog.get_logger(__name__)


class Loader:
    """Owns the knowledge of what was tried and how it ended."""

    def __init__(
        self,
        repository: Path,
        rollout: Rollout,
        policies: dict[str, ServedPolicy],
        declare: Callable[[str, PolicyDeclaration], ServedPolicy],
        allowed_heuristics: tuple[str, ...],
        providers: Sequence[Provider],
        who: str,
        metrics: Metrics,
        replicas: Replicas,
    ) -> None:
        self._repository = repository
        self._rollout = rollout
        self._policies = policies
        self._declare = declare
        self._allowed_heuristics = allowed_heuristics
        self._providers = providers
        self.who = who
        """The name that this worker writes under."""
        self._metrics = metrics
        self._replicas = replicas
        self._tried: dict[tuple[str, int], Stamp] = {}
        self._resident: dict[str, dict[int, Live]] = {}
        """Proven and warm, so that becoming stable, or canary, is one pointer."""
        self._checked: dict[str, Live] = {}
        """What was proven last, most often to be promoted at once."""
        self._conducts: dict[str, Conduct] = {}
        self._ledger_gauges = LedgerGauges(metrics)
        self._why_not: dict[tuple[str, int], str] = {}
        self._looking = asyncio.Lock()
        self.faults: dict[str, str] = {}
        """Why something cannot be served at all: by policy, or under `ledger`."""

    async def look(self) -> None:
        """Look once at the ledger and at every policy's folder."""
        async with self._looking:
            await self._follow_ledger()
            for name in await asyncio.to_thread(_declared_in, self._repository):
                if name not in self._policies:
                    await self._add_policy(name)
            for served in self._policies.values():
                state = self._rollout.state(served.name)
                if state.is_pinned != served.batcher.is_pinned:
                    served.set_pinned(state.is_pinned)
                if state.stable is not None:
                    await self._bring_to(served, state.stable)
                await self._keep_warm(served, state)
                self._conduct(served).apply(state, self.warm(served.name))
            self._ledger_gauges.show(self._policies, self._rollout.entries)
            await asyncio.to_thread(self._tell)

    def pause_seconds(self, longest: float) -> float:
        """How long to wait before the next look."""
        is_trial = any(state.open_rollout is not None for state in self._rollout.states.values())
        return min(longest, CONDUCT_SECONDS) if is_trial else longest

    def _conduct(self, served: ServedPolicy) -> Conduct:
        conduct = self._conducts.get(served.name)
        if conduct is None:
            conduct = Conduct(served, self._rollout, self.who, self._metrics)
            self._conducts[served.name] = conduct
        return conduct

    def warm(self, policy: str) -> dict[int, Live]:
        """Versions of a policy that can take traffic at once."""
        return self._resident.get(policy, {})

    async def withdraw(self) -> None:
        """This worker stops: no rollout is to wait for it."""
        await asyncio.to_thread(self._replicas.forget, self.who)
        for conduct in self._conducts.values():
            conduct.close()

    async def check(self, policy: str, version: int) -> None:
        """Read a version and hold it to everything, without serving it; what is resident has been.

        Raises:
            BundleError: It may not serve.
        """
        self._checked[policy] = await self._proven(self._policies[policy], version)

    async def _follow_ledger(self) -> None:
        try:
            await self._rollout.catch_up()
            if self._rollout.fault is not None:
                raise LedgerError(f"cut off, serving what was known last: {self._rollout.fault}")
            self.faults.pop("ledger", None)
        except (LedgerError, OSError) as error:
            if "ledger" not in self.faults:
                _log.error("ledger_unreadable", error=str(error))
            self.faults["ledger"] = str(error)

    async def _add_policy(self, name: str) -> None:
        try:
            declaration = await asyncio.to_thread(read_declaration, self._repository / name)
            refuse_unlisted(declaration.heuristic, self._allowed_heuristics)
            self._policies[name] = self._declare(name, declaration)
            self.faults.pop(name, None)
            _log.info("policy_declared", policy=name, heuristic=declaration.heuristic.behaviour)
        except (DeclarationError, ValueError) as error:
            if self.faults.get(name) != str(error):
                _log.error("policy_refused", policy=name, error=str(error))
            self.faults[name] = str(error)

    async def _bring_to(self, served: ServedPolicy, version: int) -> None:
        if served.live_version == version:
            if served.fault is not None:
                served.set_fault(None)
            return
        stamp = await self._stamp(served, version)
        if self._tried.get((served.name, version)) == stamp:
            return
        began_at = time.perf_counter()
        try:
            live = await self._proven(served, version)
        except BundleError as error:
            # Only a verdict on these files is final: whatever else went wrong is tried again.
            self._tried[served.name, version] = stamp
            await self._report_failure(served, version, str(error))
            return
        self._hold(served, live)
        # First who keeps to another version: no open episode is to be moved by the swap.
        self._conduct(served).apply(self._rollout.state(served.name), self.warm(served.name))
        served.go_live(live)
        self._metrics.counter("dqn_policy_loads_total", served.name, "loaded").add()
        took = round(time.perf_counter() - began_at, 3)
        _log.info("policy_live", policy=served.name, version=version, seconds=took)
        details = {"bundle_sha256": live.bundle_sha256, "seconds": took}
        await self._record(served.name, version, "load", "wanted by the ledger", details)

    async def _keep_warm(self, served: ServedPolicy, state: PolicyState) -> None:
        """Hold every version that has a name, or episodes that are still open."""
        wanted = state.wanted(_MOST_WARM)
        for version in wanted:
            if version in self.warm(served.name):
                continue
            stamp = await self._stamp(served, version)
            if self._tried.get((served.name, version)) == stamp:
                continue
            try:
                self._hold(served, await self._proven(served, version))
            except BundleError as error:
                self._tried[served.name, version] = stamp
                self._why_not[served.name, version] = str(error)
                _log.error("not_warm", policy=served.name, version=version, error=str(error))
        if wanted:
            held = self._resident.setdefault(served.name, {})
            # What serves now stays, named or not: its successor may not load.
            for version in set(held) - set(wanted) - {served.live_version}:
                del held[version]

    def _hold(self, served: ServedPolicy, live: Live) -> None:
        version = live.policy.manifest.version
        self._resident.setdefault(served.name, {})[version] = live
        self._why_not.pop((served.name, version), None)

    async def _stamp(self, served: ServedPolicy, version: int) -> Stamp:
        directory = self._repository / served.name / str(version)
        return await asyncio.to_thread(_stamp_of, directory)

    def _tell(self) -> None:
        replica = Replica(
            name=self.who,
            at=time.time(),
            position=len(self._rollout.entries),
            warm={name: sorted(held) for name, held in self._resident.items()},
            faults={f"{policy}/{version}": why for (policy, version), why in self._why_not.items()},
            is_cut_off="ledger" in self.faults,
        )
        try:
            self._replicas.tell(replica)
        except OSError as error:
            _log.warning("replica_not_told", error=str(error))

    async def _proven(self, served: ServedPolicy, version: int) -> Live:
        """A version that may serve: one in memory, else read and held to everything."""
        in_memory = list(self.warm(served.name).values())
        if served.name in self._checked:
            in_memory.append(self._checked[served.name])
        for live in in_memory:
            if live.policy.manifest.version == version:
                return live
        directory = self._repository / served.name / str(version)
        bundle = await asyncio.to_thread(read_bundle, directory)
        check_declared(bundle, served.declaration)
        if bundle.manifest.policy != served.name:
            raise BundleError(f"{directory}: the manifest is of policy {bundle.manifest.policy!r}")
        await prove_in_child(bundle)
        policy = await asyncio.to_thread(prove, bundle, self._providers)
        return await asyncio.to_thread(make_live, bundle, policy, served.declaration)

    async def _report_failure(self, served: ServedPolicy, version: int, fault: str) -> None:
        self._why_not[served.name, version] = fault
        served.set_fault(f"version {version} does not load: {fault}", "load_failed")
        self._metrics.counter("dqn_policy_loads_total", served.name, "failed").add()
        _log.error(
            "policy_load_failed",
            policy=served.name,
            version=version,
            serving=served.live_version,
            error=fault,
        )
        await self._record(served.name, version, "load_failed", fault, {})

    async def _record(
        self, policy: str, version: int, action: str, why: str, details: dict[str, object]
    ) -> None:
        entry = Entry(
            action=action, policy=policy, version=version, who=self.who, why=why, details=details
        )
        try:
            await self._rollout.record(entry)
        except (OSError, LedgerError) as error:
            # What is served does not depend on this entry: a full disk must not stop a load.
            _log.error("ledger_not_written", action=action, policy=policy, error=str(error))


def _declared_in(repository: Path) -> list[str]:
    if not repository.is_dir():
        return []
    return sorted(path.parent.name for path in repository.glob(f"*/{DECLARATION_FILE}"))


def _stamp_of(directory: Path) -> Stamp:
    try:
        files = [(path.name, path.stat()) for path in sorted(directory.iterdir())]
    except OSError:
        return ()
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in files)


def make_live(bundle: Bundle, policy: Policy, declaration: PolicyDeclaration) -> Live:
    """What the batcher asks: the policy, and how long it takes here."""
    manifest = bundle.manifest
    one, many = (_seconds_for(rows, policy, bundle) for rows in (1, 64))
    return Live(
        policy,
        bundle.manifest_sha256,
        AnsweredBy(manifest.version, "stable", "model", None, policy.behaviour),
        declaration.q_bound or manifest.q_bound,
        many <= _INLINE_SECONDS,
        CostModel(one, many),
    )


def _seconds_for(rows: int, policy: Policy, bundle: Bundle) -> float:
    """The quickest of several calls: the others tell of the traffic that they ran beside."""
    golden = bundle.golden.observations
    observations = np.resize(golden, (rows, *golden.shape[1:]))
    quickest, until = float("inf"), time.perf_counter() + _TRIAL_SECONDS
    for trial in range(_MOST_TRIALS):
        began_at = time.perf_counter()
        if trial >= _LEAST_TRIALS and began_at > until:
            break
        policy.decide(observations)
        quickest = min(quickest, time.perf_counter() - began_at)
    return quickest

"""`dqn replay`: what a version would have done on traffic that is logged."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from cli.ago import ago
from contract.bundle import BundleError, read_bundle
from contract.records import DecisionBatch
from contract.stacks import Histories
from recorder.shards import (
    ShardError,
    raw_folder,
    read_manifest,
    read_records,
    shard_numbers,
    shard_path,
)
from service.inference.fallback import find_faults
from service.inference.policy import Policy
from service.inference.proof import prove


@dataclass(frozen=True)
class Replayed:
    """A version beside what was done, over rows that a model had answered."""

    rows: int
    disagreements: int
    """Rows in which it would have chosen otherwise."""
    fallbacks: int
    """Rows that a heuristic would have answered: not finite, or beyond the bound."""
    mean_q_gap: float | None
    """Mean |max Q - max Q logged|; None where no Q-values are logged."""
    milliseconds_a_row: float | None
    """Of the model, in the batches of the log."""


def main(arguments: Sequence[str]) -> int:
    """Replay the log of a policy; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        policy = prove(
            read_bundle(options.data / "policies" / options.policy / str(options.version))
        )
        since = time.time() - options.since
        found = replay(policy, logged(options.data / "shards", options.policy, since))
    except (BundleError, ShardError, OSError) as error:
        print(f"dqn replay: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.encode(asdict(found)).decode())
    else:
        _print(options.policy, options.version, found)
    return 0


def logged(shards: Path, policy: str, since: float) -> Iterator[DecisionBatch]:
    """Decisions of a policy since a time (Unix seconds) that were given and say what was seen."""
    folder = raw_folder(shards, policy)
    for number in shard_numbers(folder):
        path = shard_path(folder, number)
        if read_manifest(path).last_time < since:
            continue
        for _, _, record in read_records(path):
            if not isinstance(record, DecisionBatch) or record.is_late or record.time < since:
                continue
            if record.observations.data:
                yield record


def replay(policy: Policy, batches: Iterable[DecisionBatch]) -> Replayed:
    """Ask a version again what other versions were asked. Rows of a heuristic are left out.

    Args:
        policy: The version, opened here.
        batches: As they were logged, in order. What has other shapes than the version takes is
            passed over, and so are stacks of which frames are missing.
    """
    rows = disagreements = fallbacks = 0
    gaps: list[float] = []
    seconds = 0.0
    manifest = policy.manifest
    histories = Histories()
    for batch in batches:
        seen = dict(zip(*histories.whole_rows(batch), strict=True))
        shape = manifest.observation.shape
        chosen = [row for row in _model_rows(batch) if row in seen and seen[row].shape == shape]
        if not chosen:
            continue
        masks = None if batch.action_masks is None else batch.action_masks.array()[chosen]
        began_at = time.perf_counter()
        decided = policy.decide(np.stack([seen[row] for row in chosen]), masks)
        seconds += time.perf_counter() - began_at
        rows += len(chosen)
        disagreements += int((decided.actions != batch.actions.array()[chosen]).sum())
        fallbacks += sum(map(len, find_faults(decided.q_values, manifest.q_bound)))
        if batch.q_values is not None:
            before = batch.q_values.array()[chosen].astype(np.float64).max(axis=1)
            gap = np.abs(decided.q_values.max(axis=1) - before)
            gaps += gap[np.isfinite(gap)].tolist()
    return Replayed(
        rows,
        disagreements,
        fallbacks,
        float(np.mean(gaps)) if gaps else None,
        1000 * seconds / rows if rows else None,
    )


def _model_rows(batch: DecisionBatch) -> list[int]:
    """Places of the rows that a model answered greedily: what was drawn at random says nothing."""
    index = batch.answered_by_index
    by_model = np.array([entry.source == "model" for entry in batch.answered_by])
    is_model = by_model[np.zeros(len(batch.steps), np.intp) if index is None else np.array(index)]
    return [int(row) for row in np.flatnonzero(is_model & (batch.epsilon == 0.0))]


def _print(policy: str, version: int, found: Replayed) -> None:
    table = Table("", "", title=f"{policy} {version} on logged traffic", show_header=False)
    share = found.rows or 1
    table.add_row("rows that a model had answered", f"{found.rows:,}")
    table.add_row("would have chosen otherwise", f"{found.disagreements / share:.2%}")
    table.add_row("would have fallen back", f"{found.fallbacks / share:.2%}")
    if found.mean_q_gap is not None:
        table.add_row("mean difference of max Q", f"{found.mean_q_gap:.4g}")
    if found.milliseconds_a_row is not None:
        table.add_row("ms a row", f"{found.milliseconds_a_row:.4g}")
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dqn replay", description=__doc__)
    parser.add_argument("policy")
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--since", type=ago, default=ago("24h"), help="such as 2h or 7d")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the service's folder")
    parser.add_argument("--json", action="store_true")
    return parser

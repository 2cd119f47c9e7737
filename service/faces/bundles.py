"""What anybody with `read` may see of one version, and of what a trial has shown over time."""

import asyncio
from math import exp
from pathlib import Path
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from contract.bundle import CARD_FILE, MANIFEST_FILE
from contract.evidence import PROMOTION_EVIDENCE, ROLLBACK_EVIDENCE, Evidence, Snapshot
from contract.fold import time_of
from contract.ledger import Entry
from contract.manifest import ManifestError, decode_manifest
from contract.rollout import Rollout
from service.errors import ConflictError, UnknownPathError
from service.faces.access import ServedDep, ServerDep, needs

router = APIRouter(prefix="/v1/policies", tags=["policies"], dependencies=[needs("read")])

_MAX_POINTS: Final = 500
_LARGEST_LOG: Final = 600.0
"""Logarithm of the largest evidence that is told: beyond it a float overflows."""


@router.get("/{policy}/versions/{version}")
async def one_version(server: ServerDep, served: ServedDep, version: int) -> JSONResponse:
    """A version's card, lineage and profile, as its files say now. Hashes are not checked here."""
    directory = server.settings.policies / served.name / str(version)
    return JSONResponse(await asyncio.to_thread(_describe, directory))


@router.get("/{policy}/rollout/evidence")
async def evidence(server: ServerDep, served: ServedDep) -> JSONResponse:
    """The evidence of the open trial, else of the last one, as it grew."""
    await server.rollout.catch_up()
    trial = server.rollout.state(served.name).rollout
    entries = list(server.rollout.entries)
    # In a thread: a long trial's takes tens of milliseconds, and requests do not wait for it.
    points = [] if trial is None else await asyncio.to_thread(evidence_points, trial, entries)
    return JSONResponse(
        {
            "policy": served.name,
            "rollout_id": None if trial is None else trial.rollout_id,
            "needed": {"rollback": ROLLBACK_EVIDENCE, "promotion": PROMOTION_EVIDENCE},
            "points": points,
        }
    )


def evidence_points(trial: Rollout, entries: list[Entry]) -> list[dict[str, float]]:
    """Both kinds of evidence at each of the judge's snapshots, oldest first; 500 at most."""
    told = [
        entry
        for entry in entries
        if entry.action == "evidence"
        and entry.details.get("rollout_id") == trial.rollout_id
        and entry.details.get("evidence") is not None
    ]
    # Every n-th, counted from the last, which is the one that decides.
    every = -(-len(told) // _MAX_POINTS) or 1
    return [_point(trial, entry) for entry in told[::-1][::every][::-1]]


def _point(trial: Rollout, entry: Entry) -> dict[str, float]:
    snapshot = msgspec.convert(entry.details["evidence"], Snapshot)
    found = Evidence(trial.plan.margin, trial.plan.return_range, snapshot)
    return {
        "at": time_of(entry),
        "blocks": found.num_blocks,
        "rollback": exp(min(found.log_rollback, _LARGEST_LOG)),
        "promotion": exp(min(found.log_promotion, _LARGEST_LOG)),
    }


def _describe(directory: Path) -> dict[str, Any]:
    try:
        manifest = decode_manifest((directory / MANIFEST_FILE).read_bytes())
        card = (directory / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise UnknownPathError(f"there is no version {directory.name}") from error
    except ManifestError as error:
        raise ConflictError(f"version {directory.name}: {error}") from error
    profile = manifest.profile
    training = None
    if profile is not None:
        training = {
            "episode_return": profile.episode_return.model_dump(mode="json"),
            "absolute_q_maximum": profile.absolute_q_maximum,
        }
    # By way of JSON, in which an infinite bound is a string.
    told: dict[str, Any] = msgspec.json.decode(manifest.model_dump_json(exclude={"profile"}))
    return told | {"card": card, "training": training}

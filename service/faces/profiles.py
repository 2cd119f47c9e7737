"""Arming the drift and reward alerts of a version whose bundle has no profile."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from contract.bundle import MANIFEST_FILE
from contract.live_profile import LiveProfileError, refuse_misfit, write_live_profile
from contract.manifest import Manifest, ManifestError, Profile, decode_manifest
from service.errors import ConflictError, InvalidRequestError
from service.faces.access import ServedDep, ServerDep, needs
from service.faces.changes import Change, make_change

_OPERATE: Final = needs("operate")
router = APIRouter(prefix="/v1/policies", tags=["operator"], dependencies=[_OPERATE])


class LiveProfile(Change):
    """Judge a version by what it did while it served."""

    version: int = Field(ge=1)
    profile: Profile


@router.post("/{policy}/profile")
async def arm(
    server: ServerDep, served: ServedDep, who: Annotated[str, _OPERATE], body: LiveProfile
) -> JSONResponse:
    """Keep a profile beside a bundle that has none; every replica judges by it from then on."""
    folder = server.settings.policies / served.name
    manifest = await asyncio.to_thread(_manifest_of, folder / str(body.version))
    if manifest.profile is not None:
        raise ConflictError(
            f"version {body.version} of {served.name} has a profile of its own, and bundles "
            "are never changed"
        )
    try:
        refuse_misfit(manifest, body.profile)
    except LiveProfileError as error:
        raise InvalidRequestError(f"profile: {error}") from error
    # The file first: what is armed without an entry is found and armed anew, what is entered and
    # not armed would pass for watched.
    await asyncio.to_thread(write_live_profile, folder, body.version, body.profile)
    await server.live_arming.look([served])
    details = {
        "sha256": sha256(body.profile.model_dump_json().encode()).hexdigest(),
        "episodes": body.profile.episode_return.count,
        "steps": body.profile.num_observations,
    }
    return await make_change(
        server, served, who, "profile", body, version=body.version, details=details
    )


def _manifest_of(bundle: Path) -> Manifest:
    try:
        return decode_manifest((bundle / MANIFEST_FILE).read_bytes())
    except (OSError, ManifestError) as error:
        raise ConflictError(f"version {bundle.name}: {error}") from error

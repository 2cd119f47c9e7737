"""Arms drift and Q health of versions whose bundles have no profile, as one is made for them."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from contract.live_profile import LiveProfileError, LiveProfiles
from service.inference.served import ServedPolicy

_log = structlog.get_logger(__name__)


class LiveArming:
    """Follows the profiles beside the bundles. Lives on the event loop."""

    def __init__(self, repository: Path) -> None:
        self._profiles = LiveProfiles(repository)

    async def look(self, policies: Iterable[ServedPolicy]) -> None:
        """Look once; a file that is no profile changes nothing and is told of once."""
        for served in policies:
            for version in served.unprofiled:
                try:
                    profile = await asyncio.to_thread(self._profiles.find, served.name, version)
                except LiveProfileError as error:
                    _log.error(
                        "profile_refused", policy=served.name, version=version, error=str(error)
                    )
                else:
                    served.set_live_profile(version, profile)

"""What goes wrong, what should be told of it, and how it is mended."""

from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.drill.agents import World
from benchmarks.drill.bundles import EXPLODED, NOT_A_NUMBER, OVERFLOWING, SLOW
from benchmarks.drill.site import Site

CANARY_SHARE: Final = 0.25
REFUSED: Final = 409

Act = Callable[[Site, World], int]
"""The service's status where it was asked, else 0."""


class Incident(NamedTuple):
    """One thing that goes wrong."""

    name: str
    alerts: tuple[str, ...]
    """All of these must be told; none where the service refuses it."""
    begin: Act
    end: Act
    version: int | None = None
    """The one that is shipped."""
    is_trial: bool = False
    """It is shipped as a canary, and must be rolled back."""
    most_episodes: int | None = None
    """Finished episodes within which it must be told."""
    longest_seconds: float = 90.0


def _canary(version: int) -> Act:
    plan = {"stages": [{"share": CANARY_SHARE}]}
    return lambda site, world: site.operate("canary", version=version, plan=plan)


def _nothing(site: Site, world: World) -> int:
    return 0


def _set(**fields: float) -> Act:
    def change(site: Site, world: World) -> int:
        for name, value in fields.items():
            setattr(world, name, value)
        return 0

    return change


INCIDENTS: Final = (
    Incident(
        "the meltdown: training whose Q-values exploded, as a canary",
        ("QValuesBeyondTraining", "CanaryTakenOff"),
        _canary(EXPLODED),
        _nothing,
        EXPLODED,
        is_trial=True,
    ),
    Incident("NaN weights, as a canary", (), _canary(NOT_A_NUMBER), _nothing, NOT_A_NUMBER),
    Incident(
        "NaN and Inf on live observations alone, as a canary",
        ("QValuesNonFinite", "CanaryTakenOff"),
        _canary(OVERFLOWING),
        _nothing,
        OVERFLOWING,
        is_trial=True,
    ),
    Incident(
        "a sensor shifts by 3 degrees",
        ("DriftFound",),
        _set(shift=0.05),
        _set(shift=0.0),
        # Two windows of 200 rows in 50 each, at the agents' pace.
        longest_seconds=240.0,
    ),
    Incident(
        "rewards fall by a tenth",
        ("RewardFalling",),
        _set(reward=0.9),
        _set(reward=1.0),
        most_episodes=60,
    ),
    Incident("rewards stop coming", ("OutcomesStopped",), _set(reports=False), _set(reports=True)),
    Incident(
        "Redis hangs",
        ("RedisDown",),
        lambda site, world: site.stop_redis(),
        lambda site, world: site.resume_redis(),
    ),
    Incident(
        "a model slower than the deadline, promoted",
        ("HeuristicShareVeryHigh",),
        lambda site, world: site.operate("promote", version=SLOW),
        lambda site, world: site.operate("rollback"),
        SLOW,
    ),
)

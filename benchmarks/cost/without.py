"""`python -m benchmarks.cost.without PART FLAGS…`: the real server, a part of which comes and goes.

Nobody should serve so, and no setting of the server allows it: a promise that a switch can take
back is none. So the part is taken out here, by a signal, and put back by another: one process is
held against itself, since two of the same program differ by more than a part costs.
"""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from service.__main__ import main as serve
from service.experience.decisions import DecisionLog
from service.inference.measures import Measures
from service.monitoring.drift import Drift
from service.monitoring.q_health import QHealth

_MODELS: Final = ((QHealth, "observe"), (Drift, "watch"))
_SERVING: Final = (
    (Measures, "measure_call"),
    (Measures, "count_decisions"),
    (Measures, "measure_answers"),
)
TAKE_OUT: Final = signal.SIGUSR1
PUT_BACK: Final = signal.SIGUSR2
PARTS: Final[Mapping[str, Sequence[tuple[type, str]]]] = {
    "monitoring": _MODELS,
    "metrics": (*_MODELS, *_SERVING),
    "log": ((DecisionLog, "add"),),
}
"""Name to the methods that then do nothing: they are called with each batch, and return nothing."""


def main(arguments: Sequence[str]) -> int:
    """Serve, whole until told otherwise; the server's exit status."""
    part, *flags = arguments
    whole = [(owner, name, getattr(owner, name)) for owner, name in PARTS[part]]

    def take_out(*_: object) -> None:
        for owner, name, method in whole:
            setattr(owner, name, _nothing_for(method))

    def put_back(*_: object) -> None:
        for owner, name, method in whole:
            setattr(owner, name, method)

    # Workers are forked from this process and keep what it has set.
    signal.signal(TAKE_OUT, take_out)
    signal.signal(PUT_BACK, put_back)
    return serve(flags)


def _nothing_for(method: Callable[..., None]) -> Callable[..., None]:
    def nothing(*_: Any, **__: Any) -> None:
        return None

    nothing.__name__ = method.__name__
    return nothing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where our worker's time goes: py-spy looks at it under load, and this adds up what it saw."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import which
from threading import Thread

from benchmarks.serving.closed_loop import PATIENT_DEADLINE_MS
from benchmarks.serving.contenders import Site, our_service
from benchmarks.serving.load import LoadError, run_wrk
from benchmarks.serving.policies import observations_of
from benchmarks.serving.processes import own_cpu_seconds, process_tree

_SAMPLES_PER_SECOND = 400
_FUNCTIONS = 30
_HEADING = "innermost {kind} while the GIL is held; the model's calls and the disk's release it"


def profile(site: Site, model: str, connections: int, seconds: float) -> str:
    """Load one worker and tell which functions its time went to, as text.

    Raises:
        LoadError: py-spy or wrk is missing, or may not look at the process.
    """
    with our_service(site.data, model, deadline_ms=PATIENT_DEADLINE_MS) as ours:
        request = ours.encode(observations_of(model, 1))
        load = Thread(target=run_wrk, args=(ours.url, request, connections, seconds + 4, ours.pid))
        load.start()
        try:
            stacks = read_stacks(_record(_busiest(ours.pid, seconds=1.0), seconds))
        finally:
            load.join()
    views = {"function of any language": stacks, "Python function": only_python(stacks)}
    return "\n".join(
        f"{model}, {connections} connections: {_HEADING.format(kind=kind)}\n{tabulate(view)}\n"
        for kind, view in views.items()
    )


def read_stacks(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """Stacks, outermost function first, to how often each was seen.

    A line is `outer (file:1);inner (file:2) 17`; line numbers are dropped.
    """
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        frames, _, count = line.strip().rpartition(" ")
        if frames:
            stacks[tuple(_without_line(frame) for frame in frames.split(";"))] += int(count)
    return stacks


def tabulate(stacks: Mapping[tuple[str, ...], int]) -> str:
    """Functions by the share of samples in themselves, beside the share in what they call too."""
    itself: Counter[str] = Counter()
    with_calls: Counter[str] = Counter()
    for stack, count in stacks.items():
        itself[stack[-1]] += count
        for function in set(stack):
            with_calls[function] += count
    total = max(1, sum(itself.values()))
    rows = [
        f"{count / total:7.1%} {with_calls[name] / total:7.1%}  {name}"
        for name, count in itself.most_common(_FUNCTIONS)
    ]
    return "\n".join([f"{'itself':>7} {'+ calls':>7}  function ({total} samples)", *rows])


def only_python(stacks: Mapping[tuple[str, ...], int]) -> Counter[tuple[str, ...]]:
    """The same stacks without C functions, whose time falls to the Python that called them."""
    found: Counter[tuple[str, ...]] = Counter()
    for stack, count in stacks.items():
        python = tuple(frame for frame in stack if frame.endswith(".py)"))
        found[python or ("(no Python)",)] += count
    return found


def _record(pid: int, seconds: float) -> list[str]:
    # Only who holds the GIL: with C functions shown, waiting for it would look like work.
    program = Path(sys.executable).with_name("py-spy")
    found = str(program) if program.exists() else which("py-spy")
    if found is None:
        raise LoadError("py-spy is needed: pip install py-spy")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "stacks"
        done = subprocess.run(
            [
                *(found, "record", "--pid", str(pid), "--format", "raw", "--gil", "--native"),
                *("--rate", str(_SAMPLES_PER_SECOND), "--duration", f"{seconds:.0f}"),
                *("--output", str(output)),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise LoadError(f"py-spy: {done.stderr.strip()}")
        return output.read_text(encoding="utf-8").splitlines()


def _busiest(pid: int, seconds: float) -> int:
    """The worker: of a server's processes, the one that uses most CPU for a while."""
    before = {each: own_cpu_seconds(each) for each in process_tree(pid)}
    time.sleep(seconds)
    return max(before, key=lambda each: own_cpu_seconds(each) - before[each])


def _without_line(frame: str) -> str:
    name, _, rest = frame.rpartition(":")
    return f"{name})" if name and rest.rstrip(")").isdigit() else frame

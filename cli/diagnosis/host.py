"""The machine: processor, memory, files, clock. The texts of `/proc` come in as arguments."""

import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cli.diagnosis.finding import Finding, fault, ok, warning

_OPEN_FILES: Final = 4096
_UNSYNCHRONISED: Final = 5
"""`adjtimex` says TIME_ERROR."""


def check_host(workers: int) -> Iterator[Finding]:
    """Look at this machine.

    Args:
        workers: That are to run on it.
    """
    yield from check_processor(
        _text(Path("/proc/cpuinfo")),
        _text(Path("/sys/fs/cgroup/cpu.max")),
        len(os.sched_getaffinity(0)),
        workers,
        platform.machine(),
    )
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield check_clock(_clock_state())


def check_processor(
    cpuinfo: str, cpu_max: str, num_cores: int, workers: int, machine: str
) -> Iterator[Finding]:
    """Vector instructions, and whether there is a core for each worker.

    Args:
        cpuinfo: `/proc/cpuinfo`.
        cpu_max: The control group's `cpu.max`: microseconds allowed and period, or `max`.
        num_cores: That this process may run on.
        workers: That are to run.
        machine: Such as `x86_64`.
    """
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    if machine == "x86_64" and "avx2" not in flags:
        yield warning(
            "processor",
            "no AVX2",
            "models run several times slower here: take a processor of 2013 or later, or look at "
            "the hypervisor's CPU model (`host` passes the real one through)",
        )
    else:
        vectors = [flag for flag in ("avx2", "avx512f", "avx512_vnni") if flag in flags]
        yield ok("processor", f"{machine} {' '.join(vectors)}".strip())
    quota, _, period = cpu_max.strip().partition(" ")
    allowed = float(quota) / float(period) if quota.isdigit() and period else float(num_cores)
    cores = min(allowed, float(num_cores))
    if cores < workers:
        yield warning(
            "cores",
            f"{cores:g} for {workers} workers",
            "a worker without a core of its own is throttled in the middle of an answer: raise the "
            f"container's CPU limit to {workers} or more, or set workers to {max(int(cores), 1)}",
        )
    else:
        yield ok("cores", f"{cores:g} for {workers} workers")


def check_open_files(limit: int) -> Finding:
    """Each connection is an open file."""
    if 0 <= limit < _OPEN_FILES:
        return warning(
            "open files",
            f"{limit} allowed",
            f"more agents than that are refused: raise it (ulimit -n {_OPEN_FILES}, LimitNOFILE=)",
        )
    return ok("open files", f"{limit} allowed")


def check_clock(state: int | None) -> Finding:
    """Shares change at the same second everywhere only where clocks agree.

    Args:
        state: What `adjtimex` returns; None where it cannot be asked.
    """
    if state is None:
        return warning(
            "clock", "cannot be asked here", "see that the host keeps time by NTP (chrony)"
        )
    if state == _UNSYNCHRONISED:
        return warning(
            "clock",
            "not synchronised",
            "replicas judge by the clock which share an episode began under: run chrony or "
            "systemd-timesyncd on the host",
        )
    return ok("clock", "synchronised")


def check_data(folder: Path, free_share: float, spool_max_bytes: int) -> Iterator[Finding]:
    """The folder that holds what was accepted.

    Args:
        folder: Of all that is kept.
        free_share: Of the disk, which the spool leaves free.
        spool_max_bytes: The size at which the spool accepts nothing more.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield fault(
            "data",
            f"{there} cannot be written by user {os.geteuid()}",
            f"chown -R {os.geteuid()} {there}, or set fsGroup on the pod",
        )
        return
    yield ok("data", f"{folder.absolute()} can be written")
    kind = filesystem_of(there.absolute(), _text(Path("/proc/mounts")))
    if kind in ("tmpfs", "ramfs"):
        advice = "what was accepted is lost with the machine: mount a disk there"
        yield warning("filesystem", f"{kind}: memory", advice)
    elif kind in ("overlay", "aufs"):
        advice = "what was accepted is lost with the container: mount a volume there"
        yield warning("filesystem", f"{kind}: the container's own", advice)
    elif kind.startswith(("nfs", "cifs", "smb", "fuse")):
        advice = "locks and fsync over a network are slow or untrue: mount a block device there"
        yield warning("filesystem", kind, advice)
    else:
        yield ok("filesystem", kind)
    disk = os.statvfs(there)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    room = free - free_share * size
    told = f"{free / 2**30:.1f} of {size / 2**30:.1f} GiB free"
    if room <= 0:
        yield fault(
            "disk",
            told,
            f"the spool keeps {free_share:.0%} free and accepts nothing now: free some, or take a "
            "larger disk",
        )
    elif room < spool_max_bytes:
        yield warning(
            "disk",
            told,
            f"the spool may grow to {spool_max_bytes / 2**30:.1f} GiB and will be refused at "
            f"{room / 2**30:.1f}: take a larger disk, or set spool_max_bytes to {int(room)}",
        )
    else:
        yield ok("disk", told)


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the filesystem that a path is on.

    Args:
        path: Absolute.
        mounts: `/proc/mounts`.
    """
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _clock_state() -> int | None:
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    # `struct timex` is smaller than this everywhere; modes 0 changes nothing.
    state: int = adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

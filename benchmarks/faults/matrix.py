"""The faults, as data: each does its damage at a random moment and leaves the ring to recover."""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.faults.ring import Ring, kill, wait_until


class Fault(NamedTuple):
    """One kind of damage."""

    name: str
    weight: int
    """How often it comes, beside the others."""
    strike: Callable[[Ring, random.Random], None]


def kill_worker(ring: Ring, rng: random.Random) -> None:
    """SIGKILL to one worker; the supervisor starts another."""
    if workers := ring.workers():
        kill(rng.choice(workers))


def kill_recorder(ring: Ring, rng: random.Random) -> None:
    """SIGKILL to one recorder, whatever it is just doing."""
    ring.wait_for_a_shard()
    # Over two passes, so that any moment of one is as likely as any other.
    time.sleep(rng.uniform(0.0, 0.4))
    if recorders := ring.recorders():
        kill(rng.choice(recorders))
    ring.start_recorders()


def kill_everything(ring: Ring, rng: random.Random) -> None:
    """SIGKILL to supervisor, workers and the recorder beside them."""
    ring.kill_service()
    ring.start_service()


def tear_a_write(ring: Ring, rng: random.Random) -> None:
    """A power cut in the middle of a write: everything is gone, and half a frame is left."""
    ring.kill_service()
    ring.tear_a_tail(rng)
    ring.start_service()


def put_recorder_to_sleep(ring: Ring, rng: random.Random) -> None:
    """Stop one for longer than its lease lasts, and wake it up: another has its streams."""
    if recorders := ring.recorders():
        pid = rng.choice(recorders)
        _signal(pid, signal.SIGSTOP)
        time.sleep(rng.uniform(1.1, 1.6))
        _signal(pid, signal.SIGCONT)


def fill_the_disk(ring: Ring, rng: random.Random) -> None:
    """Leave not a byte beneath spool and shards, for a moment."""
    filler = ring.data / "filler"
    status = os.statvfs(ring.data)
    with filler.open("wb", buffering=0) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(status.f_bavail * status.f_frsize, 1))
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            time.sleep(rng.uniform(0.1, 0.5))
    filler.unlink()


def kill_redis(ring: Ring, rng: random.Random) -> None:
    """SIGKILL to Redis, which is back after a while."""
    assert ring.store is not None
    ring.store.kill()
    time.sleep(rng.uniform(0.0, 0.5))
    ring.store.start()


def cut_redis_power(ring: Ring, rng: random.Random) -> None:
    """Redis dies and loses what it had not synced: up to a second and more of what it took."""
    assert ring.store is not None
    ring.store.cut_power()
    time.sleep(rng.uniform(0.0, 0.3))
    ring.store.start()


def drain_dead_spools(ring: Ring, rng: random.Random) -> None:
    """All workers die before Redis ever confirmed a record, and their spools are drained."""
    to_redis, _ = ring.proxies
    ring.kill_service()
    to_redis.set_mood("swallow")
    ring.start_service()
    wait_until(ring.is_answering, "the service answers")
    time.sleep(rng.uniform(0.1, 0.8))
    ring.kill_service()
    to_redis.set_mood("pass")
    ring.start_recorders()
    ring.drain_spools()
    ring.start_service()


def swallow_answers(ring: Ring, rng: random.Random) -> None:
    """Redis takes what it is told, and nobody hears so: it is told again."""
    proxy = rng.choice(ring.proxies)
    proxy.set_mood("swallow")
    time.sleep(rng.uniform(0.05, 0.4))
    proxy.set_mood("pass")


def partition(ring: Ring, rng: random.Random) -> None:
    """Nothing comes through between Redis and one side, and nothing fails either."""
    proxy = rng.choice(ring.proxies)
    proxy.set_mood("stall")
    time.sleep(rng.uniform(0.1, 1.5))
    proxy.set_mood("pass")


ONE_BOX: Final = (
    Fault("worker killed", 16, kill_worker),
    Fault("recorder killed", 8, kill_recorder),
    Fault("everything killed", 1, kill_everything),
    Fault("write torn", 1, tear_a_write),
)
AROUND_REDIS: Final = (
    Fault("worker killed", 10, kill_worker),
    Fault("recorder killed", 6, kill_recorder),
    Fault("everything killed", 1, kill_everything),
    Fault("write torn", 1, tear_a_write),
    Fault("stale lease", 4, put_recorder_to_sleep),
    Fault("redis killed", 8, kill_redis),
    Fault("redis without power", 12, cut_redis_power),
    Fault("delivered twice", 12, swallow_answers),
    Fault("partition", 8, partition),
    Fault("spools drained", 2, drain_dead_spools),
)
DISK_FULL: Final = Fault("disk full", 4, fill_the_disk)


def faults_for(ring: Ring, *, is_small_disk: bool) -> list[Fault]:
    """What can happen to a ring."""
    if ring.store is None:
        faults = list(ONE_BOX)
    else:
        faults = [
            each
            for each in AROUND_REDIS
            if each.strike is not cut_redis_power or ring.store.can_cut_power
        ]
    return [*faults, DISK_FULL] if is_small_disk else faults


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return

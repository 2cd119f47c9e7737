"""Which ledger a worker follows: a file on one box, a stream in Redis over many."""

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.ledger import LEDGER_FILE, FileLedger, Ledger
from contract.replicas import FileReplicas, RedisReplicas, Replicas
from contract.shared_ledger import RedisStream, SharedLedger
from contract.streams import LEDGER_KEY, REPLICAS_KEY
from service.settings import ServiceSettings

_TIMEOUT_SECONDS: Final = 1.0
"""A Redis that does not answer holds up a look at the ledger for so long, and no request at all."""


def open_ledger(settings: ServiceSettings, slot: int) -> tuple[Ledger, Replicas]:
    """The ledger, and where replicas tell of themselves."""
    copy = FileLedger(settings.policies / LEDGER_FILE)
    run = settings.data / "run"
    if settings.redis_url is None:
        return copy, FileReplicas(run / "replicas")
    # Without retries of its own: each look is one.
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    run.mkdir(parents=True, exist_ok=True)
    stream = RedisStream(client, LEDGER_KEY, (redis.RedisError,))
    ledger = SharedLedger(stream, copy, run / f"orders-{slot}.json")
    return ledger, RedisReplicas(client, REPLICAS_KEY, (redis.RedisError,))

"""What the peers keep their jobs in: Redis in memory, PostgreSQL with fsync, or RabbitMQ; as variables for drivers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.peers import redis
from benchmarks.peers.driver import RESULTS, URL
from benchmarks.peers.missing import Missing
from tests.bridges.postgres import PostgresMissing, postgres
from tests.bridges.rabbitmq import RabbitMissing, rabbitmq

ON_POSTGRES = ("pgqueuer", "procrastinate")
ON_RABBITMQ = ("celery_rabbitmq", "dramatiq_rabbitmq")
ON_REDIS = ("arq", "bullmq", "celery", "dramatiq", "huey", "rq", "saq", "taskiq")
RABBITMQ_SCHEDULERS = 2


@contextmanager
def servers(peer: str) -> Iterator[dict[str, str]]:
    """Start what a peer needs, on empty folders. Raises Missing."""
    with ExitStack() as running:
        try:
            if peer in ON_POSTGRES:
                yield {URL: running.enter_context(postgres(fsync=True))}
                return
            url = running.enter_context(redis.server())
            results = {RESULTS: f"{url.removesuffix('/0')}/1"}
            if peer in ON_RABBITMQ:
                url = running.enter_context(rabbitmq(schedulers=RABBITMQ_SCHEDULERS))
        except (PostgresMissing, RabbitMissing) as missing:
            raise Missing(str(missing)) from missing
        yield {URL: url, **results}

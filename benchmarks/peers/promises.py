"""What each system promises with the settings it is run with: unequal promises are told, not hidden."""

from __future__ import annotations

from logqueue.jobs.settings import AT_LEAST_ONCE

IN_REDIS = (
    "jobs in Redis without append-only file: what is accepted is lost with the process; result stored, also there"
)
IN_POSTGRES = "jobs in PostgreSQL with fsync: durable when accepted"
IN_RABBITMQ = "persistent and confirmed messages in RabbitMQ: durable when accepted; result in Redis without a file"

JOBS = "durable when accepted (acks=all, fsync), status and result stored durably, history can be replayed"
LOG = "acks=all waits for fsync unless fsync=0; acks=1 does not; checksums are checked"

LOG_PEERS = {
    "apache": "acks wait for fsync only where fsync=1 and acks=-1, or peer_fsync=1; checksums are checked",
    "mock": "nothing is stored: a few MB in memory, no checksums, no offsets on disk",
    "tansu": "in memory: nothing outlives the process",
}
JOB_PEERS = {
    "arq": IN_REDIS,
    "bullmq": IN_REDIS,
    "celery": f"{IN_REDIS}; acks_late",
    "celery_rabbitmq": f"{IN_RABBITMQ}; acks_late",
    "dramatiq": IN_REDIS,
    "dramatiq_rabbitmq": IN_RABBITMQ,
    "huey": IN_REDIS,
    "pgqueuer": f"{IN_POSTGRES}; its log keeps each end, no results",
    "procrastinate": f"{IN_POSTGRES}; status stored, no results",
    "rq": IN_REDIS,
    "saq": IN_REDIS,
    "taskiq": f"{IN_REDIS}; acknowledged after the end",
}
PROMISES = {
    **LOG_PEERS,
    **JOB_PEERS,
    AT_LEAST_ONCE: "the same; no job whose end is stored runs again, but after a crash jobs it sent may be there twice",
}


def told(peer: str) -> dict[str, str]:
    """Our promise and the peer's, by name."""
    return {"logqueue": LOG if peer in LOG_PEERS else JOBS, peer: PROMISES[peer]}

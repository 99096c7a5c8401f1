"""What all clients of the soak share: their options, their history, and the wish to stop. Knows no Kafka."""

from __future__ import annotations

import argparse
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.soak.history import Recorder

RECORDS_PER_SECOND = 250
"""What one producer sends at most: histories have to be checked in the end."""


class Wish:
    """An event for signal handlers: those of threading have a lock, which the thread that is interrupted may hold."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


@dataclass(slots=True)
class Session:
    """One client: `name` is unique among all that ever ran, `role` is what its successors share."""

    name: str
    role: str
    bootstrap: str
    topic: str
    partitions: int
    recorder: Recorder
    random: Random
    stopping: Wish
    _allowed_at: float = 0.0

    def pace(self, count: int = 1) -> None:
        """Wait until `count` more records may be sent."""
        now = time.monotonic()
        self._allowed_at = max(self._allowed_at, now - 0.1) + count / RECORDS_PER_SECOND
        if self._allowed_at > now:
            time.sleep(self._allowed_at - now)  # milliseconds: a wish to stop need not cut it short

    def any_partition(self) -> int:
        return self.random.randrange(self.partitions)


def open_session() -> tuple[str, Session]:
    """Read the command line; SIGTERM asks the client to end in good order. Answers (kind, session)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    stopping = Wish()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the soak, which ends us
    session = Session(
        name=options.name,
        role=options.role,
        bootstrap=options.bootstrap,
        topic=options.topic,
        partitions=options.partitions,
        recorder=Recorder(options.history),
        random=Random(options.seed),
        stopping=stopping,
    )
    return options.kind, session

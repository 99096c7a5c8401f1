"""Both logs under comparison, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.engines import apache, embedded
from tests.fidelity.running import Log


@contextmanager
def both(folder: Path, *, ours: str | None = None, theirs: str | None = None) -> Iterator[tuple[Log, Log]]:
    """Our broker and Apache Kafka, started in a folder unless addresses of running ones are given."""
    with ExitStack() as stack:
        for name in ("embedded", "apache"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        kafka = theirs or stack.enter_context(apache.apache_kafka(folder / "apache"))
        mine = ours or stack.enter_context(embedded.embedded(folder / "embedded"))
        yield Log("embedded", mine), Log("apache", kafka)

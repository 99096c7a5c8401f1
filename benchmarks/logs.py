"""The logs under comparison, ours and the peers', behind one face: started on an empty folder, ended by their id."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import stack
from benchmarks.generator.slow_disk import exported, slowed
from benchmarks.peers import tansu
from benchmarks.peers.missing import Missing
from tests.engines.apache import EngineMissing, node_from_jars

OURS = "logqueue"
PEERS = ("apache", "mock", "tansu")
ACKS_ALL = -1
MOCK = ("-m", "benchmarks.peers.librdkafka_mock")
# Those of kafka-server-start.sh and kafka-run-class.sh.
JAVA_OPTIONS = ("-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
FSYNC_EACH_APPEND = {"log.flush.interval.messages": "1"}


@contextmanager
def log(name: str, *, fsync: bool = True, fsync_us: int = 0) -> Iterator[tuple[stack.Watched, str]]:
    """A running log: its process and its address. Raises Missing.

    With `fsync` the acks of acks=all wait for the disk: ours by itself, Apache Kafka because every append is flushed
    then; by default it leaves that to the kernel. `fsync_us` makes each fsync take so much longer. `mock` (librdkafka)
    and `tansu` keep everything in memory.
    """
    with ExitStack() as resources:
        match name:
            case "logqueue":
                acks = ("--override", f"logqueue.fsync.acks.all={str(fsync).lower()}")
                yield resources.enter_context(stack.broker(*acks, env=slowed(fsync_us)))
            case "mock":
                yield resources.enter_context(stack.server(stack.python_module(*MOCK)))
            case "tansu":
                yield resources.enter_context(tansu.server())
            case "apache":
                yield _apache(resources, fsync=fsync, fsync_us=fsync_us)
            case _:
                raise ValueError(f"there is no log {name!r}")


def _apache(resources: ExitStack, *, fsync: bool, fsync_us: int) -> tuple[stack.Watched, str]:
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="logqueue-bench-")))
    node = node_from_jars(folder, FSYNC_EACH_APPEND if fsync else {}, java_options=JAVA_OPTIONS)
    try:
        with exported(slowed(fsync_us)):
            bootstrap, pid = resources.enter_context(node)
    except EngineMissing as missing:
        raise Missing(str(missing)) from missing
    return stack.Watched(pid), bootstrap


def waits_for_disk(settings: Mapping[str, int]) -> bool:
    """Whether acknowledgements are to wait for fsync: with `fsync=1`, and only those of acks=all do with us.

    A peer that fsyncs every append then would do so for acks=1 too, and be compared with what it does not promise.
    """
    return bool(settings["fsync"]) and settings["acks"] == ACKS_ALL

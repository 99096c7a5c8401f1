"""How long does the broker take to its ready line, after kill -9, with 1,000 partitions, as the log grows?

Each size is a data folder of its own, and is read from the disk where `cold`: its files are taken out of the page cache
before each start. The last `tail_kib` of each partition came after the last checkpoint. Ready is a matter of
seconds, of which the processor's are the figure to compare on a busy machine. A run takes 25 s, and 4 GB of disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import stack
from benchmarks.report import Figures, InvalidSetting, Settings

SETTINGS: Settings = {
    "sizes_mib": "1024 4096",
    "partitions": 1000,
    "batch_kib": 16,
    "segment_mib": 64,
    "cold": 1,
    "tail_kib": 500,
}


def run(settings: Settings) -> Figures:
    """Every size."""
    number = {name: int(value) for name, value in settings.items() if name != "sizes_mib"}
    sizes = str(settings["sizes_mib"]).split()
    share_kib = (min(map(int, sizes)) << 10) // number["partitions"]
    if number["tail_kib"] > share_kib:
        raise InvalidSetting(f"tail_kib={number['tail_kib']}: a partition of the smallest size has {share_kib} KiB")
    figures: dict[str, float] = {}
    for size in sizes:
        found = _measure({**number, "total_mib": int(size)})
        figures |= {f"{size} MiB: {name}": figure for name, figure in found.items()}
    return figures


def _measure(settings: dict[str, int]) -> Figures:
    """Fill a data folder, leave it as a killed process does, and start on it; then once more after a clean stop."""
    with tempfile.TemporaryDirectory(prefix="logqueue-bench-") as folder:
        _fill(Path(folder), settings)
        if settings["cold"]:
            _evict(Path(folder))
        killed, killed_cpu, rss = _start(folder)
        if settings["cold"]:
            _evict(Path(folder))
        clean, clean_cpu, _ = _start(folder)
        return {
            "ready after kill -9 s": killed,
            "ready after kill -9 CPU s": killed_cpu,
            "ready after clean stop s": clean,
            "ready after clean stop CPU s": clean_cpu,
            "RSS MiB": rss,
        }


def _start(folder: str) -> tuple[float, float, float]:
    """Seconds to the ready line, of the processor too, and memory then."""
    began = time.perf_counter()
    child = stack.Process("--data-dir", folder, "--kafka-port", "0", command=stack.BROKER)
    try:
        child.wait_for("ready on ")
        return time.perf_counter() - began, child.cpu_seconds(), child.rss_mib()
    finally:
        child.end()


def _fill(folder: Path, settings: dict[str, int]) -> None:
    """Write the logs in a process of its own, with a checkpoint before the last part, and kill it."""
    arguments = [f"{name}={number}" for name, number in settings.items()]
    child = subprocess.Popen([sys.executable, "-m", __name__, str(folder), *arguments])
    if child.wait() != -signal.SIGKILL:
        raise RuntimeError("the data folder could not be filled")


def _evict(folder: Path) -> None:
    """Take the files out of the page cache, as after a start of the machine."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def _write(folder: Path, settings: dict[str, int]) -> None:
    from logqueue.clock import SystemClock
    from logqueue.records import Record, build_batch
    from logqueue.storage import LogDirectory

    directory = LogDirectory.open(folder, clock=SystemClock())
    config = {"segment.bytes": str(settings["segment_mib"] << 20)}
    directory.create_topic("recovered", partitions=settings["partitions"], properties=config)
    now_ms = int(time.time() * 1000)
    records = [Record(timestamp_ms=now_ms, value=os.urandom(1024)) for _ in range(settings["batch_kib"])]
    batch = build_batch(records)
    tail = settings["tail_kib"] // settings["batch_kib"]
    count = (settings["total_mib"] << 10) // settings["partitions"] // settings["batch_kib"]
    for is_tail, batches in ((False, count - tail), (True, tail)):
        for log in directory.logs.values():
            for _ in range(batches):
                log.append(bytearray(batch), leader_epoch=0, now_ms=now_ms)
            if not is_tail:  # what the broker does every minute
                log.note_producers()
                log.flush()
        if not is_tail:
            directory.checkpoint()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), {name: int(number) for name, _, number in (a.partition("=") for a in sys.argv[2:])})

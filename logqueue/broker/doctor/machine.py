"""The machine under a data folder: space, the speed and honesty of its disk, its clock, its limits, its ports."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from logqueue.broker import descriptors
from logqueue.broker.doctor.finding import Finding, ok, problem, warning
from logqueue.broker.network.listener import CannotListen, bind
from logqueue.config import BrokerConfig
from logqueue.config.listeners import listeners_of
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES

FSYNCS = 20
FSYNC_BYTES = 4096
SLOW_FSYNC_SECONDS = 0.02
INCREDIBLE_FSYNC_SECONDS = 0.000_02  # no disk answers within 20 us: nothing was written
LOW_SPACE_SHARE, NO_SPACE_SHARE = 0.10, 0.02
NO_SPACE_BYTES = 256 * 1024 * 1024
CLOCK_JUMP_SECONDS = 0.2
EARLIEST_SANE_YEAR = 2024
FEWEST_DESCRIPTORS = 256
EXPECTED_CLIENTS = 256  # connections that a broker should at least have room for
_IN_MEMORY = ("tmpfs", "ramfs")
_OVER_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs")


class ClockWatch:
    """Whether the wall clock is moved while the doctor looks: it and the monotonic one should go on alike."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def finding(self) -> Finding:
        return judge_clock(time.time(), jump=(time.time() - time.monotonic()) - self._offset)


def judge_clock(now: float, *, jump: float) -> Finding:
    """`now` in seconds since the epoch; `jump` is how far the clock was moved meanwhile."""
    year = time.gmtime(now).tm_year
    if year < EARLIEST_SANE_YEAR:
        return problem("clock", f"the clock says it is the year {year}", "set it: retention and timestamps follow it")
    if abs(jump) > CLOCK_JUMP_SECONDS:
        hint = "let it be slewed (chrony, systemd-timesyncd), not set"
        return warning("clock", f"the clock was moved by {jump:+.1f} s while looking", hint)
    return ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def look_at_space(folder: Path) -> Iterable[Finding]:
    """Free bytes and free inodes of the file system. Raises OSError."""
    disk = os.statvfs(folder)
    yield judge_space(free=disk.f_bavail * disk.f_frsize, total=disk.f_blocks * disk.f_frsize)
    if disk.f_files:
        yield judge_inodes(free=disk.f_favail, total=disk.f_files)


def judge_space(*, free: int, total: int) -> Finding:
    """Of the file system, in bytes."""
    share = free / total if total else 0.0
    text = f"{_size(free)} free of {_size(total)} ({share:.0%})"
    hint = "free some, lower retention.ms or retention.bytes, or move the data folder to a larger disk"
    if share < NO_SPACE_SHARE or free < NO_SPACE_BYTES:
        return problem("disk space", text, hint)
    return warning("disk space", text, hint) if share < LOW_SPACE_SHARE else ok("disk space", text)


def judge_inodes(*, free: int, total: int) -> Finding:
    """Every segment takes about four files."""
    share = free / total
    text = f"{free} inodes free of {total} ({share:.0%})"
    hint = "fewer partitions or larger segment.bytes take fewer files"
    if share < NO_SPACE_SHARE:
        return problem("inodes", text, hint)
    return warning("inodes", text, hint) if share < LOW_SPACE_SHARE else ok("inodes", text)


def look_at_fsync(folder: Path) -> Finding:
    """Write and sync a small file a few times, and remove it. Raises OSError."""
    path = folder / f".doctor-{os.getpid()}.tmp"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    times = []
    try:
        for _ in range(FSYNCS):
            os.pwrite(fd, os.urandom(FSYNC_BYTES), 0)
            started = time.perf_counter()
            os.fdatasync(fd)
            times.append(time.perf_counter() - started)
    finally:
        os.close(fd)
        path.unlink()
    return judge_fsync(times, kind=file_system_of(folder))


def judge_fsync(seconds: list[float], *, kind: str) -> Finding:
    """`seconds` that each fsync took on a file system of this `kind`."""
    middle, slowest = median(seconds), max(seconds)
    text = (
        f"{middle * 1000:.2f} ms in the middle, {slowest * 1000:.2f} ms at worst, on {kind or 'an unknown file system'}"
    )
    if kind in _IN_MEMORY:
        return problem("fsync", text, "this is memory: nothing survives a power cut. Use a folder on a disk")
    if kind in _OVER_NETWORK:
        return warning("fsync", text, "locks and syncs over a network are not always kept: a local disk is safer")
    if middle < INCREDIBLE_FSYNC_SECONDS:
        return warning("fsync", text, "too quick to be true: fsync may be switched off (libeatmydata, nobarrier)")
    if middle > SLOW_FSYNC_SECONDS:
        return warning("fsync", text, "acks=all waits for this: a disk with power-loss protection is quicker")
    return ok("fsync", text)


def file_system_of(folder: Path) -> str:
    """Kind of the file system that a folder is on (`ext4`); empty if that cannot be told."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found, kind = -1, ""
    real = str(folder.resolve())
    for line in mounts:
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= found:
            found, kind = len(point), type_
    return kind


def look_at_limits(config: BrokerConfig, *, partitions: int) -> Finding:
    """The number of open files that this shell allows, as a broker started from it would have: it takes all it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = descriptors.allowed() if hard == resource.RLIM_INFINITY else hard
    return judge_descriptors(allowed, connections=config.max_connections, partitions=partitions)


def judge_descriptors(allowed: int, *, connections: int, partitions: int) -> Finding:
    """Segments share a bounded pool, and no file is mapped: only connections need more than that."""
    shares = descriptors.share(allowed)
    text = f"{allowed} open files allowed: room for {shares.files} of logs and {shares.connections} connections"
    hint = "raise the limit of open files (ulimit -Hn, LimitNOFILE in systemd)"
    if allowed < FEWEST_DESCRIPTORS:
        return problem("open files", text, hint)
    wanted = min(DEFAULT_MAX_OPEN_FILES, partitions)
    if shares.connections < min(connections, EXPECTED_CLIENTS) or shares.files < wanted:
        return warning("open files", text, hint)
    return ok("open files", text)


def look_at_ports(config: BrokerConfig) -> Iterable[Finding]:
    """Whether a broker could listen where it is told to; for a folder that no broker holds."""
    for endpoint in listeners_of(config):
        try:
            bind(endpoint.host, endpoint.port).close()
        except CannotListen as error:
            yield problem("port", str(error))
        else:
            yield ok("port", f"{endpoint.host}:{endpoint.port} is free")


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

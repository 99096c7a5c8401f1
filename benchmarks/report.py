"""What a result says besides its figures: machine, versions, commit, and how figures of several runs are shown."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.generator.slow_disk import fsync_times_us

PACKAGES = ("logqueue-kafka", "aiokafka", "confluent-kafka", "fastapi", "uvloop")
RATIOS_HEAD = ", pair by pair:"
"""What the line says that the ratios of a result follow."""
MOST_DECIMALS = 9
IN_MEMORY = ("ramfs", "tmpfs")
BUSY_SECONDS = 1.0
SYNCS = 200
SYNCED_BYTES = 300
SYNC_SECONDS = 0.5
"""A slow disk is asked less often."""

Figures = Mapping[str, float]
Settings = Mapping[str, int | str]
Circumstances = Mapping[str, Any]


class InvalidSetting(ValueError):
    """A setting that a workload cannot run with; the text says which ones it can."""


def circumstances() -> Circumstances:
    """Machine, disk, what others use of it, versions and commit: what a figure means nothing without.

    Ask before anything is measured: whatever the processors do then is others'.
    """
    return {
        "cpus": os.cpu_count(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "busy_before": round(busy_share(), 2),
        "disk": _disk(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def busy_share(seconds: float | None = None) -> float:
    """The share of the processors' time in use during so many seconds; what the host keeps from us is in it."""
    before = _processor_ticks()
    time.sleep(BUSY_SECONDS if seconds is None else seconds)
    used, total = (now - then for now, then in zip(_processor_ticks(), before, strict=True))
    return used / total if total else 0.0


def _processor_ticks() -> tuple[int, int]:
    """Of all processors since they started: used, and all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    total, idle, waiting = sum(ticks), ticks[3], ticks[4]
    return total - idle - waiting, total


def _disk() -> dict[str, Any]:
    """What the folders of what is measured are on, and how long it takes to make a small append durable."""
    times = fsync_times_us(SYNCS, size=SYNCED_BYTES, limit_seconds=SYNC_SECONDS)
    return {
        "file_system": file_system(Path(tempfile.gettempdir())),
        "fdatasync_p50_us": round(percentile(times, 0.5)),
        "fdatasync_p99_us": round(percentile(times, 0.99)),
    }


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, as Linux names it."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    mounts = [(line.split()[1], line.split()[2]) for line in lines]
    over = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    # Of two in one place the later hides the other; in a changed root there may be none.
    return max(reversed(over), key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def _commit() -> str:
    """The commit, and whether something besides saved results differs from it."""
    number = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)benchmarks/results")
    return f"{number or 'unknown'}{' with changes' if changed else ''}"


def _git(*words: str) -> str:
    """What git says; nothing outside of a repository, or without git."""
    command = ["git", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def settings_text(settings: Settings) -> str:
    """Settings as they are given on the command line."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def summarise(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of each figure over the runs."""
    return {
        name: {
            "min": min(run[name] for run in runs),
            "median": statistics.median(run[name] for run in runs),
            "max": max(run[name] for run in runs),
        }
        for name in runs[0]
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The runs of a peer, its version, and what it and we promise (by name)."""

    name: str
    runs: Sequence[Figures]
    version: str = ""
    promises: Mapping[str, str] = field(default_factory=dict)


def as_text(
    workload: str,
    question: str,
    settings: Mapping[str, Any],
    runs: Sequence[Figures],
    peer: Compared | None = None,
    *,
    facts: Circumstances,
) -> str:
    """A result as lines that read well and diff well; with a peer's runs, the ratios pair by pair."""
    lines = [
        f"{workload}: {question}",
        f"  machine   {facts['cpus']} CPUs, {facts['machine']}, Python {facts['python']}, commit {facts['commit']}, "
        f"processors busy before: {facts['busy_before']:.0%}",
        f"  disk      {_disk_text(facts['disk'])}",
        "  versions  " + ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        f"  settings  {settings_text(settings)}, runs={len(runs)}",
    ]
    if peer is not None:
        lines += [f"  peer      {peer.version}"] if peer.version else []
        lines += [f"  promise   {name}: {promise}" for name, promise in peer.promises.items()]
    lines += [
        f"  {'figure':<40}{'min':>14}{'median':>14}{'max':>14}",
    ]
    for name, figure in summarise(runs).items():
        lines.append(_row(name, figure))
    if peer is not None:
        lines.append(f"  {peer.name}:")
        lines += [_row(name, figure) for name, figure in summarise(peer.runs).items()]
        lines.append(f"  logqueue / {peer.name}{RATIOS_HEAD}")
        lines += [_row(name, figure, _ratio) for name, figure in summarise(ratios(runs, peer.runs)).items()]
    return "\n".join(lines)


def _disk_text(disk: Mapping[str, Any]) -> str:
    kind = disk["file_system"]
    memory = " (memory: whatever waits for the disk here waits for nothing)" if kind in IN_MEMORY else ""
    times = f"{disk['fdatasync_p50_us']} us (p50), {disk['fdatasync_p99_us']} us (p99)"
    return f"{kind}{memory}, fdatasync of {SYNCED_BYTES} bytes {times}"


def _row(name: str, figure: Mapping[str, float], shown: Callable[[float], str] = "{:,.2f}".format) -> str:
    return f"  {name:<40}{shown(figure['min']):>14}{shown(figure['median']):>14}{shown(figure['max']):>14}"


def _ratio(value: float) -> str:
    """With three significant digits: 0.035 and 0.044 are not the same."""
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 2
    return f"{value:,.{min(max(decimals, 0), MOST_DECIMALS)}f}"


def ratios(runs: Sequence[Figures], peer_runs: Sequence[Figures]) -> list[Figures]:
    """Each figure of a run over that of the peer's run beside it; figures that are 0 or missing there are left out."""
    return [
        {name: run[name] / other[name] for name in run if all(peer.get(name) for peer in peer_runs)}
        for run, other in zip(runs, peer_runs, strict=True)
    ]


def as_json(
    workload: str,
    settings: Mapping[str, Any],
    runs: Sequence[Figures],
    peer: Compared | None = None,
    *,
    facts: Circumstances,
) -> str:
    """The same as one JSON object."""
    result = {"workload": workload, "settings": settings, **facts, "figures": summarise(runs), "runs": runs}
    if peer is not None:
        result["peer"] = {
            "name": peer.name,
            "version": peer.version,
            "promises": peer.promises,
            "figures": summarise(peer.runs),
            "runs": peer.runs,
        }
        result["ratios"] = summarise(ratios(runs, peer.runs))
    return json.dumps(result, default=str)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the sorted values lie (nearest rank)."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]

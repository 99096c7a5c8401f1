"""A process that compacts: jobs come in as lines on standard input, results go out as lines on standard output.

In a thread of the broker this work would fight with the event loop for the interpreter's lock. Here it has a processor
of its own, gives way to everything else that wants one, and touches nothing but `.cleaned` files. It ends with its
standard input, and with the process that started it.

    python -m logqueue.storage.compaction.worker PARENT_PID
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import IO

from logqueue.records.errors import CorruptMessage
from logqueue.storage.compaction.compactor import Compactor, NothingToRead
from logqueue.storage.compaction.job import CompactionFailed, CompactionJob, to_json
from logqueue.storage.file_system import FileSystem, RealFileSystem

_PR_SET_PDEATHSIG = 1


def serve(jobs: IO[str], results: IO[str], fs: FileSystem, *, parent: int | None = None) -> None:
    """Do one job after the other until `jobs` ends, or until `parent` is not the parent any more."""

    def keep_going() -> None:
        if parent is not None and os.getppid() != parent:
            raise SystemExit("the broker is gone")

    for line in jobs:
        try:
            for result in Compactor(fs, CompactionJob.from_json(line), keep_going=keep_going).run():
                print(to_json(result), file=results, flush=True)
        except BrokenPipeError:
            raise  # the broker is gone: nobody is there to be told
        except (OSError, CorruptMessage, NothingToRead) as error:
            is_damage = not isinstance(error, OSError)
            print(to_json(CompactionFailed(reason=str(error), is_damage=is_damage)), file=results, flush=True)


def _give_way() -> None:
    """Run only when nobody else wants the processor."""
    os.nice(19)
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the broker is gone")


def main() -> None:
    parent = int(sys.argv[1])
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which ends us
    _give_way()
    try:
        serve(sys.stdin, sys.stdout, RealFileSystem(), parent=parent)
    except BrokenPipeError:
        os._exit(1)  # an ordinary exit would try to write the result again, and complain


if __name__ == "__main__":
    main()

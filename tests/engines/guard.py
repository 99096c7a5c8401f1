"""Servers that cannot outlive the tests: a shell waits for our end and kills what is still there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def killed_after(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """A process that does not outlive the block, however that ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def ended_with_us(*processes: int) -> Iterator[None]:
    """Should we be killed within the block, these processes are too; negative ids are process groups.

    PR_SET_PDEATHSIG does not do: it does not reach the children of a server's start script.
    """
    command = ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "$@"', "guard", *map(str, processes)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()

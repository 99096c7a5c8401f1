"""One run of a child process: spawned in its own session, bound to our life, its output fed to a log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from logqueue_api.up.child_log import ChildLog
from logqueue_api.up.parent_death import die_with_parent

READ_BYTES = 65_536
READS_AFTER_EXIT = 64  # what a dead child left in the pipe (64 KiB on Linux) is read, but no grandchild is waited for
POLL_SECONDS = 0.05  # only where the kernel has no pidfd_open(2)


class Process:
    """A running child; constructing it spawns it (OSError where the command cannot be executed).

    Its own session, so that a Ctrl-C at the terminal reaches only the supervisor, which stops children in order.
    Spawning does not await: there is no moment in which a child runs and nobody knows its pid.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: ChildLog) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._output, writer = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 the command is the user's own
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(writer)
        self.pid = self._process.pid
        self._loop.add_reader(self._output, self._read)

    async def wait(self) -> int:
        """The exit code (minus the signal's number if a signal ended it), once its output is read."""
        try:
            await self._exited()
        finally:
            self._loop.remove_reader(self._output)
        if self._process.returncode is None:
            # Not yet waited for, so the group's id is still its own: what it started and left goes with it.
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        for _ in range(READS_AFTER_EXIT):
            if not self._read():
                break
        self._log.end_line()
        os.close(self._output)
        return code

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)  # does nothing to a process that was waited for

    def kill(self) -> None:
        """End it and whatever it started in its session's group."""
        if self._process.returncode is None:  # until it is waited for, the pid cannot belong to anyone else
            os.killpg(self.pid, signal.SIGKILL)

    async def _exited(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            while self._process.poll() is None:  # noqa: ASYNC110 nothing to wait on here
                await asyncio.sleep(POLL_SECONDS)
            return
        gone = asyncio.Event()
        self._loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _read(self) -> bool:
        """Feed the log once; False when there is nothing to read."""
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._log.feed(data)
            return True
        self._loop.remove_reader(self._output)
        return False


def describe_exit(code: int) -> str:
    """`exit code 3`, or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"

"""Exit codes, and the one exception that ends a command with a message. Imports nothing of ours."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell is told; the table in `logqueue --help` is made from this."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    TIMEOUT = 5
    IN_USE = 6
    APP = 7
    STATE = 8
    BUG = 70
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "done or tried, and it failed (a job that ended dead, a replay with failures, a file not written)",
    ExitCode.USAGE: "bad input: an option, an argument, arguments of a job",
    ExitCode.UNREACHABLE: "the log or the API is not reachable, or the API failed (5xx)",
    ExitCode.NOT_FOUND: "no such job, topic, group, dead letter",
    ExitCode.TIMEOUT: "the wait was longer than --timeout",
    ExitCode.IN_USE: "a server's port or data folder cannot be used: taken, not writable, of a newer format",
    ExitCode.APP: "APP cannot be imported or holds no App",
    ExitCode.STATE: "refused as things stand: the job has ended, the letter is closed, the key is another job's",
    ExitCode.BUG: "a defect of logqueue; please report it with the traceback",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


class CommandError(Exception):
    """Ends a command: what is wrong, what to do next (`hint`), and the exit code."""

    def __init__(self, message: str, *, code: ExitCode, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


class UsageError(CommandError):
    """Bad input on the command line."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code=ExitCode.USAGE, hint=hint)

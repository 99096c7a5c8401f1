"""What can go wrong with a job, as exceptions with the class that decides their fate. Knows no Kafka client."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from logqueue.errors import LogqueueError
from logqueue.jobs.durations import Duration, parse_duration
from logqueue.jobs.http_errors import attribute_of, http_status, is_temporary


class ErrorClass(StrEnum):
    """The fate of a failure, as written in the `job-error-class` header."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    TIMEOUT = "timeout"
    CRASH = "crash"
    UNDECODABLE = "undecodable"
    UNKNOWN_TYPE = "unknown-type"
    CONFLICT = "conflict"


class TransientError(Exception):
    """Raised by a handler when a later attempt may succeed; so are all exceptions that are not permanent."""

    error_class = ErrorClass.TRANSIENT


class Permanent(Exception):
    """Raised by a handler when no later attempt can succeed: the job goes to its dead-letter topic at once.

    Subclass it for reasons of your own; the class name is recorded as the error's type:

        class NoSuchCustomer(Permanent): ...
    """

    error_class = ErrorClass.PERMANENT


PermanentError = Permanent


class Undecodable(Permanent):
    """The record's value is not what its content type says; it is dead-lettered with its bytes untouched."""

    error_class = ErrorClass.UNDECODABLE


class InvalidArguments(Permanent, LogqueueError):
    """Arguments that the handler's signature does not take.

    `field` is the argument at fault (`a`, `a.b`, `a[...]`), or None where the value as a whole is wrong.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnserialisableResult(Permanent):
    """The handler returned something that JSON has no form for."""


class UnknownJobType(LogqueueError):
    """No handler of this app has that type; the job is kept in the parked topic until one does."""

    error_class = ErrorClass.UNKNOWN_TYPE

    def __init__(self, type_: str | None, *, queue: str) -> None:
        what = f"job type {type_!r}" if type_ else "a job without a type (and the queue has no default type)"
        super().__init__(f"No handler for {what} in queue {queue!r}")
        self.type = type_
        self.queue = queue


class JobTimeout(Exception):
    """The handler ran longer than the job's timeout; retried like a transient error, recorded as `timeout`."""

    error_class = ErrorClass.TIMEOUT


class JobCancelled(Exception):
    """Ends a job as `cancelled`: raised by `ctx.raise_if_cancelled()`, or by a handler that sees its job as moot."""


class Snooze(Exception):
    """Raised by a handler (or `ctx.snooze`) that wants to be called again after `delay`; uses up no attempt.

    raise Snooze("10m")
    """

    def __init__(self, delay: Duration) -> None:
        super().__init__(delay)
        self.delay_s = parse_duration(delay)


class EffectDenied(Permanent):
    """A replay asks a handler to leave the outside world alone: `ctx.effect` does not call its function."""


class StepRefused(Permanent):
    """A step of a job (`ctx.step`) that cannot be kept: its name, its result, or how many there are."""


class InvalidDefinition(LogqueueError):
    """A job or queue is declared in a way that cannot work; raised while the declaring module is imported."""


class NotPrepared(Permanent, InvalidDefinition):
    """Something else stands where a prepared job (`job.prepare(...)`) belongs; the text says what to write."""


class InvalidSetting(LogqueueError):
    """A setting in the environment or the settings file that cannot be used; the text names it."""


class UnknownQueue(InvalidSetting):
    """A worker was told to run a queue that its app does not have; the text has the likely one."""

    def __init__(self, name: str, *, app: str, known: Collection[str]) -> None:
        from difflib import get_close_matches

        close = get_close_matches(name, sorted(known), n=1)
        likely = f" (did you mean {close[0]!r}?)" if close else ""
        there = ", ".join(sorted(known)) or "none"
        super().__init__(f"App {app!r} has no queue {name!r}{likely}; its queues are: {there}")


class InvalidHeader(LogqueueError):
    """A header of a job record whose text cannot be read; `name` is the header."""

    def __init__(self, name: str, text: object, expected: str) -> None:
        super().__init__(f"Header {name}: {text!r} is not {expected}")
        self.name = name


class BrokerUnreachable(LogqueueError):
    """No broker answered within the bounds of the settings; the text names the addresses."""


class SendFailed(LogqueueError):
    """The log refused or did not confirm a record. Whether it was written is unknown after a timeout."""


class JobTooLarge(SendFailed):
    """The record is larger than the log takes."""


class RegistrationFailed(LogqueueError):
    """A schema could not be registered; the text says why."""


class RegistryUnreachable(BrokerUnreachable):
    """The schema registry elsewhere does not answer, or answers with an error of its own."""


class WaitTimeout(LogqueueError, TimeoutError):
    """`wait` ended before the job did; the job goes on."""


class ClientClosed(LogqueueError):
    """The app was closed while something waited on it."""


class JobFailed(LogqueueError):
    """Raised by `JobState.raise_for_state` for a job that ended in any other state than `succeeded`."""


def classify(error: BaseException) -> ErrorClass:
    """The class of any exception: its own `error_class`, what its HTTP status says, `timeout`, else `transient`.

    HTTP-like errors (see `http_errors`) are permanent for 4xx, except 408, 409, 425 and 429.
    """
    own = attribute_of(error, "error_class")
    if isinstance(own, ErrorClass):
        return own
    if (status := http_status(error)) is not None:
        return ErrorClass.TRANSIENT if is_temporary(status) else ErrorClass.PERMANENT
    return ErrorClass.TIMEOUT if isinstance(error, TimeoutError) else ErrorClass.TRANSIENT

"""Exceptions on their way from one process to another. Values only."""

from __future__ import annotations

import pickle
import traceback

from logqueue.jobs.errors import ErrorClass, classify
from logqueue.jobs.texts import text_of, utf8_text
from logqueue_consumers.processes.frames import Raised

MAX_TRACE_CHARS = 8_000
MAX_TEXT_CHARS = 8_000


class HandlerError(Exception):
    """An error that cannot be pickled, known by its name, text and class. Its type has the name of the original."""


def pack(error: BaseException) -> Raised:
    """An exception as a message; its traceback comes along as text."""
    trace = utf8_text("".join(traceback.format_exception(error))[-MAX_TRACE_CHARS:])
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 - our own bytes: some errors pickle, and fail to come back
    except Exception:  # whatever a user's __reduce__ raises
        pickled = b""
    text = text_of(error, limit=MAX_TEXT_CHARS)
    return Raised(pickled or None, type(error).__name__, text, str(classify(error)), trace)


def unpack(raised: Raised) -> Exception:
    """The exception again; where it cannot be the same, one of the same name and class.

    SystemExit and its like would end the worker's loop: what they ended is one job.
    """
    error: Exception | None = None
    if raised.pickled is not None:
        try:
            found = pickle.loads(raised.pickled)  # noqa: S301 - from our own child
            error = found if isinstance(found, Exception) else None
        except Exception:  # its class is not to be had here
            error = None
    if error is None:
        error = type(raised.type, (HandlerError,), {"error_class": ErrorClass(raised.error_class)})(raised.text)
    error.add_note(f"in its own process:\n{raised.trace}")
    return error

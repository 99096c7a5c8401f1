"""What a worker and its child processes say to each other: frames of a length and a message. Bytes <-> values; no IO.

| from    | message  | says                                                                        |
|---------|----------|-----------------------------------------------------------------------------|
| worker  | Begin    | where the App is; answered by Ready, or by Raised when it cannot be imported |
| worker  | Call     | run this job; answered by Done or Raised                                    |
| worker  | Stop     | end the job: asked first, then raised in its thread                         |
| worker  | Answer   | what became of an Ask                                                       |
| worker  | RunPart  | run the function of the Ask with this number (a step); answered by PartRan  |
| child   | Tell     | a service of the context is used that answers nothing (progress, log)       |
| child   | Ask      | a service of the context is used, and its answer is waited for              |

Arguments and results are JSON. Errors, and what services take, are pickled: both sides are one program.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="is", array_like=True):
    """One message."""


class Begin(Message, frozen=True):
    """The first message to a child. `settings` and `app` are pickled."""

    parent: int
    sys_path: list[str]
    app: bytes
    settings: bytes


class Ready(Message, frozen=True):
    """The App is imported."""


class Call(Message, frozen=True):
    """Run a job of this type. `facts` are those of the JobContext; None for a handler that takes none."""

    type: str
    arguments: bytes
    facts: dict[str, Any] | None


class Done(Message, frozen=True):
    """The handler returned; `result` is its JSON, None for None."""

    result: bytes | None


class Raised(Message, frozen=True):
    """The handler raised; `pickled` is None where the error cannot be pickled."""

    pickled: bytes | None
    type: str
    text: str
    error_class: str
    trace: str


class Stop(Message, frozen=True):
    """End the job: `ctx.cancelled` is true from now on and an async handler is cancelled; `is_hard`: raise in it."""

    is_hard: bool


class Tell(Message, frozen=True):
    """`method` of the context's services with pickled arguments."""

    method: str
    arguments: bytes


class Ask(Message, frozen=True):
    """The same, with an answer."""

    number: int
    method: str
    arguments: bytes


class Answer(Message, frozen=True):
    """The pickled value of an Ask, or the error that it ended in."""

    number: int
    value: bytes
    error: Raised | None = None


class RunPart(Message, frozen=True):
    """Run the function that an Ask named."""

    number: int


class PartRan(Message, frozen=True):
    """Its pickled result, or its error."""

    number: int
    value: bytes
    error: Raised | None = None


ToChild = Begin | Call | Stop | Answer | RunPart
ToWorker = Ready | Done | Raised | Tell | Ask | PartRan

_encode = msgspec.msgpack.Encoder().encode
decode_to_child = msgspec.msgpack.Decoder(ToChild).decode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode


class FrameTooLarge(ValueError):
    """A message larger than MAX_FRAME_BYTES."""


def frame(message: Message) -> bytes:
    """The bytes of a message, its length before it."""
    body = _encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"a message of {len(body)} bytes between a worker and its process")
    return LENGTH.pack(len(body)) + body

"""What is to be done in the log when a worker's process has ended without a word. Bytes <-> values; no IO.

| of the worker      | settled by                                                                                   |
|--------------------|----------------------------------------------------------------------------------------------|
| its transactions   | InitProducerId with its transactional id: aborts what is open (KIP-98), as `fenceProducers`   |
| its memberships    | LeaveGroup with its member id, as it would have sent it itself (KIP-345: others may send it)  |
| its heartbeat      | a tombstone in `jobs.workers`                                                                 |

A static member (it was given an instance id) is not made to leave: that its partitions wait for it is what the id is
for. Its transactions are ended all the same.
"""

from __future__ import annotations

import hashlib

import msgspec

KEY_CHARS = 16
END = b"\n"
"""A will is one line: what an interrupted write leaves behind the end is not read."""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a group. `transactional_ids` belong to the partitions it gave, so the next owner has the same ones."""

    group: str
    member_id: str
    transactional_ids: tuple[str, ...] = ()


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a worker process has open in the log."""

    worker: str
    transactional_id: str | None = None
    memberships: tuple[Membership, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Will).decode


def encode(will: Will) -> bytes:
    """The content of a file."""
    return _encode(will) + END


def decode(content: bytes) -> Will | None:
    """The will in a file's content; None while it has none that can be read."""
    line, end, _ = content.partition(END)
    try:
        return _decode(line) if end else None
    except (ValueError, RecursionError):
        return None


def key_of(*, machine: str, bootstrap: str, topic_prefix: str, group: str) -> str:
    """Who can see to whose will: the workers of one group on one running kernel."""
    named = "\0".join((machine, bootstrap, topic_prefix, group))
    return hashlib.sha256(named.encode()).hexdigest()[:KEY_CHARS]

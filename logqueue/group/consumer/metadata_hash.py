"""A fingerprint of the topics a group subscribes to: when it changes, the group has to be assigned anew. Pure.

Kafka 4.1+ stores an XXH3 hash in its place. Nobody compares the two but a coordinator that takes over the other's log:
it sees a difference and assigns once more, which is harmless; so a hash of the standard library serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct

from logqueue.coordination.topics import Topics

_HASH = Struct(">q")
_COUNT = Struct(">i")
NO_TOPICS = 0


def metadata_hash(names: Iterable[str], topics: Topics) -> int:
    """A signed 64-bit hash over name, id and number of partitions of those that exist; 0 for none."""
    hasher = blake2b(digest_size=_HASH.size)
    is_empty = True
    for name in sorted(names):
        topic_id = topics.id_of(name)
        if topic_id is not None:
            is_empty = False
            hasher.update(topic_id + _COUNT.pack(topics.partition_count(name)) + name.encode() + b"\0")
    return NO_TOPICS if is_empty else int(_HASH.unpack(hasher.digest())[0])

"""Which partition of `__consumer_offsets` holds a group. Arithmetic only."""

from __future__ import annotations

from functools import lru_cache

CONSUMER_OFFSETS_TOPIC = "__consumer_offsets"

_INT32_MIN = -(2**31)
_REMEMBERED = 256


@lru_cache(maxsize=_REMEMBERED)  # 6 us for a name of 60 characters, several times a commit or transaction
def java_hash(text: str) -> int:
    """`String.hashCode()` of Java: over UTF-16 code units, as a signed 32-bit number."""
    result = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for i in range(0, len(units), 2):
        result = (31 * result + (units[i] << 8 | units[i + 1])) & 0xFFFFFFFF
    return result - 2**32 if result >= 2**31 else result


def partition_of(group_id: str, partitions: int) -> int:
    """Kafka's rule: abs(hash) % partitions, with abs of the smallest int taken as 0 (Utils.abs)."""
    hashed = java_hash(group_id)
    return (0 if hashed == _INT32_MIN else abs(hashed)) % partitions

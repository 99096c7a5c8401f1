"""Requests out of plain values, and answers into plain values without what may differ between two brokers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from logqueue.protocol.api import ApiKey
from logqueue.protocol.schema import ARRAY, STRUCT, Message, Struct
from logqueue.records.batch import BatchHeader, check_crc, iterate_batches
from logqueue.records.builder import read_records
from logqueue.records.errors import CorruptMessage

Plain = Any  # None, bool, int, str, and lists and dicts of them

# Values that say where and when a broker runs, and sentences for people.
DROPPED = frozenset(
    {"throttle_time_ms", "host", "port", "cluster_id", "error_message", "client_host", "brokers", "node_endpoints"}
    | {"batch_index_error_message", "last_timestamp", "documentation", "transaction_start_time_ms"}
)
SETS = frozenset({"subscribed_topic_names"})
INTERNAL_TOPIC = "__consumer_offsets"
TIMES = frozenset({"log_append_time_ms"})
# Times of records, in milliseconds: the step's number in seconds after this. Too young for a log to delete.
FIRST_TIME_MS = int(time.time() * 1000) - 24 * 60 * 60 * 1000
# What is later comes from a broker's clock.
CLOCK_SINCE_MS = FIRST_TIME_MS + 12 * 60 * 60 * 1000
NO_UUID = bytes(16)


def request(api: str, **fields: Any) -> Message:
    """The request of an API (its snake-case name) with nested structs given as dictionaries."""
    module = import_module(f"logqueue.protocol.messages.{api}")
    name = "".join(word.capitalize() for word in api.split("_")) + "Request"
    message = _build(getattr(module, name), fields)
    assert isinstance(message, Message)
    return message


def key_of(api: str) -> ApiKey:
    """The key of an API given by its snake-case name."""
    return ApiKey[api.upper()]


def _build(kind: type[Struct], values: dict[str, Any]) -> Struct:
    items = {field.name: field for field in kind.fields}
    built: dict[str, Any] = {}
    for name, value in values.items():
        field = items[name]
        if field.kind is ARRAY and isinstance(field.item, type) and value is not None:
            value = [_build(field.item, element) for element in value]
        elif field.kind is STRUCT and value is not None:
            value = _build(field.item, value)
        built[name] = value
    return kind(**built)


class Names:
    """Labels for ids that brokers make: each gets a number in the order in which a session first sees it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._labels: dict[tuple[str, object], str] = {}

    def label(self, kind: str, value: object) -> str:
        """The label of an id."""
        known = self._labels.get((kind, value))
        if known is None:
            number = sum(1 for other, _ in self._labels if other == kind)
            known = self._labels[kind, value] = f"<{kind} {number}>"
        return known

    def text(self, value: str) -> str:
        """A text without the prefix of the session's own names."""
        return value.replace(self._prefix, "~")

    def plain(self, value: Any, name: str = "") -> Plain:
        """A message or a part of it as plain values; the order of lists of structs carries no meaning."""
        if isinstance(value, Struct):
            fields = type(value).fields
            if getattr(value, "topic", None) == INTERNAL_TOPIC:
                return {"topic": INTERNAL_TOPIC}  # which of its partitions depends on how many it has
            return {f.name: self.plain(getattr(value, f.name), f.name) for f in fields if f.name not in DROPPED}
        if isinstance(value, list):
            plain = [self.plain(item, name) for item in value]
            is_set = name in SETS or (plain and isinstance(plain[0], dict))
            return sorted(plain, key=repr) if is_set else plain
        if name == "records":
            return list(self._batches(value or b""))
        if name in ("topic_id",):
            return "<no id>" if value == NO_UUID else self.label("topic id", value)
        if name in ("member_id", "leader"):
            return self.label("member", value) if value else value
        if name == "session_id":
            return self.label("session", value) if value else value
        if name == "producer_id":
            return self.label("producer", value) if value >= 0 else value
        if name in TIMES:
            return _time(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).hex()
        return self.text(value) if isinstance(value, str) else value

    def _batches(self, records: Any) -> Iterator[Plain]:
        data = bytes(records)
        for position, header in iterate_batches(data, partial_tail=True):
            yield self._batch(data, position, header)

    def _batch(self, data: bytes, position: int, header: BatchHeader) -> Plain:
        try:
            check_crc(data, position, header)
        except CorruptMessage:
            return "a batch with a wrong checksum"
        is_control = bool(header.attributes & 0x20)
        return {
            "offsets": [header.base_offset, header.base_offset + header.last_offset_delta],
            "leader_epoch": header.leader_epoch,
            "attributes": header.attributes,
            "times": [_time(header.base_timestamp), _time(header.max_timestamp)],
            "producer": [self.plain(header.producer_id, "producer_id"), header.producer_epoch, header.base_sequence],
            "records": [
                [
                    record.offset,
                    _time(record.timestamp_ms),
                    None if record.key is None else record.key.hex(),
                    None if record.value is None else "marker" if is_control else record.value[:64].hex(),
                    [[name, None if value is None else value.hex()] for name, value in record.headers],
                ]
                for record in read_records(data, position, header)
            ],
        }


def _time(value: int) -> int | str:
    return "<now>" if value >= CLOCK_SINCE_MS else value

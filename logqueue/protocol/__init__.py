"""The Kafka wire protocol: bytes <-> messages. No IO."""

from logqueue.protocol.wire import ZERO_UUID, FileSlice, MalformedFrame, Records, Segment, UnsupportedVersion

__all__ = ["ZERO_UUID", "FileSlice", "MalformedFrame", "Records", "Segment", "UnsupportedVersion"]

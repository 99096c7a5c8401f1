"""The Kafka wire protocol: bytes <-> messages. No IO.

    messages/<api>.py   what Kafka says: one declaration per message, all versions in one class
    api, versions       the keys; what is served and advertised
    schema, fields      the notation of the declarations
    reading, writing    from (message, version) to a straight-line function, made when it is first needed
    codec               those functions by message and version; keys and values of internal topics
    frames              whole requests and responses with their headers: what a broker or a client calls

To add an API: declare its request and response in `messages/`, named after its `ApiKey`; the tests find it there and
hold it against two other implementations. To serve it, add its range to `versions.SERVED`.
"""

from logqueue.protocol.wire import ZERO_UUID, FileSlice, MalformedFrame, Records, Segment, UnsupportedVersion

__all__ = ["ZERO_UUID", "FileSlice", "MalformedFrame", "Records", "Segment", "UnsupportedVersion"]

"""The topics in a consumer's join metadata. Reads the version-0 part that every version of it begins with."""

from __future__ import annotations

from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from logqueue.protocol.wire import MalformedFrame

CONSUMER_PROTOCOL_TYPE = "consumer"

_VERSION_BYTES = 2


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """Topics of a `ConsumerProtocolSubscription`; None when the bytes are not one.

    A group whose topics cannot be told is still served: only expiry and deletion of its offsets must then be careful.
    """
    try:
        if codec.read_version(metadata) < 0:
            return None
        subscription, _ = codec.read(ConsumerProtocolSubscription, 0, metadata, _VERSION_BYTES)
    except MalformedFrame:
        return None
    return frozenset(subscription.topics)

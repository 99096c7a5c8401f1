"""DeleteTopics (key 20).

v4 is flexible, v5 adds error messages, v6 also names topics by id (KIP-516).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, int32, string, uuid
from logqueue.protocol.schema import STRING, Message, Struct


class DeleteTopicState(Struct):
    name: str | None = string(nullable=0)
    topic_id: bytes = uuid()


class DeleteTopicsRequest(Message, key=ApiKey.DELETE_TOPICS, versions=(1, 6), flexible=4):
    topics: list[DeleteTopicState] = array(DeleteTopicState, since=6)
    topic_names: list[str] = array(STRING, until=5)
    timeout_ms: int = int32()


class DeletableTopicResult(Struct):
    name: str | None = string(nullable=6)
    topic_id: bytes = uuid(since=6)
    error_code: int = int16()
    error_message: str | None = string(since=5, nullable=0)


class DeleteTopicsResponse(Message, key=ApiKey.DELETE_TOPICS, versions=(1, 6), flexible=4):
    throttle_time_ms: int = int32()
    responses: list[DeletableTopicResult] = array(DeletableTopicResult)

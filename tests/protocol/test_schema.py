"""The notation: what a declaration gives, and the smallest pieces below it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.protocol import MalformedFrame
from logqueue.protocol.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from logqueue.protocol.messages.share_fetch import PartitionData
from logqueue.protocol.schema import Message, constructor
from logqueue.protocol.wire import read_uvarint, skip_tags, uvarint


@given(st.integers(0, 2**32 - 1))
def test_varints_survive_and_take_a_byte_for_seven_bits(value: int) -> None:
    data = uvarint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert read_uvarint(b"?" + data + b"?", 1) == (value, 1 + len(data))


def test_a_varint_of_six_bytes_is_malformed() -> None:
    with pytest.raises(MalformedFrame, match="longer than five bytes"):
        read_uvarint(b"\xff" * 5 + b"\x01", 0)


def test_skipping_tags_ends_behind_the_last_one() -> None:
    assert skip_tags(b"\x02\x00\x01a\x80\x01\x02bb!", 0) == 9


def test_defaults_are_not_shared_between_instances() -> None:
    one, other = ProduceResponse(), ProduceResponse()
    one.responses.append(TopicProduceResponse(name="t"))
    assert other.responses == []
    assert PartitionData().current_leader is not PartitionData().current_leader


def test_structs_are_equal_by_type_and_fields_and_can_be_shown() -> None:
    assert PartitionProduceResponse(index=1) == PartitionProduceResponse(index=1)
    assert PartitionProduceResponse(index=1) != PartitionProduceResponse(index=2)
    assert TopicProduceResponse() != ProduceResponse()
    assert repr(TopicProduceResponse(name="t")).startswith("TopicProduceResponse(name='t', topic_id=b")


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        TopicProduceResponse(title="t")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        TopicProduceResponse().title = "t"  # type: ignore[attr-defined]


def test_a_constructor_makes_what_its_class_makes(message_type: type[Message]) -> None:
    assert constructor(message_type)() == message_type()


def test_a_constructor_takes_the_fields_of_its_class() -> None:
    make = constructor(PartitionProduceResponse)
    assert make(index=3, error_message="e") == PartitionProduceResponse(index=3, error_message="e")
    assert make().record_errors is not make().record_errors

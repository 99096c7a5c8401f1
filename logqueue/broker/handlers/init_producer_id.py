"""InitProducerId (22): an id for an idempotent producer (KIP-98). v3+: the producer may offer its old one (KIP-360)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: InitProducerIdRequest, slot: Slot) -> InitProducerIdResponse:
    if request.transactional_id is not None:
        return InitProducerIdResponse(error_code=ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, producer_epoch=-1)
    try:
        # Without transactions an old id is never bumped: a new one with epoch 0 serves as well, as in Kafka.
        return InitProducerIdResponse(producer_id=broker.take_producer_id(), producer_epoch=0)
    except KafkaError as error:
        return InitProducerIdResponse(error_code=error.code, producer_epoch=-1)

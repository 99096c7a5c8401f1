"""InitProducerId (22): an id for an idempotent producer (KIP-98), or the next epoch of a transactional id.

v3+: the producer may offer the id it has (KIP-360); v4: PRODUCER_FENCED. v6 (two-phase commit, KIP-939) is not served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

NO_ID = NO_EPOCH = -1


def handle(broker: Broker, request: InitProducerIdRequest, slot: Slot) -> InitProducerIdResponse | None:
    if request.transactional_id is not None:
        broker.transactions.serve(broker.transactions.coordinator.init_producer_id, request, slot)
        return None
    try:
        if (request.producer_id == NO_ID) != (request.producer_epoch == NO_EPOCH):
            raise KafkaError("a producer id comes with its epoch", code=ErrorCode.INVALID_REQUEST)
        # Without a transactional id an old producer id is never bumped: a new one serves as well, as in Kafka.
        return InitProducerIdResponse(producer_id=broker.take_producer_id(), producer_epoch=0)
    except KafkaError as error:
        return InitProducerIdResponse(error_code=error.code, producer_epoch=NO_EPOCH)

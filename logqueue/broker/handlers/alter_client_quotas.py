"""AlterClientQuotas (49): set and remove quotas of users, client ids and addresses (KIP-546, KIP-612)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import KafkaError
from logqueue.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AlterClientQuotasResponseEntryData,
    EntryData,
)
from logqueue.security.quota import Entity, InvalidQuota, check_entity, check_quota

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

Present = dict[Entity, dict[str, float]]


def handle(broker: Broker, request: AlterClientQuotasRequest, slot: Slot) -> AlterClientQuotasResponse:
    present: Present = {entity: dict(values) for entity, values in broker.security.quotas.by_entity.items()}
    results = []
    seen: set[Entity] = set()
    for entry in request.entries:
        result = AlterClientQuotasResponseEntryData(entity=entry.entity)
        try:
            _apply(present, entry, seen)
        except InvalidQuota as error:
            result.error_code, result.error_message = error.code, error.detail
        results.append(result)
    if not request.validate_only and any(not result.error_code for result in results):
        try:
            broker.security.set_quotas({entity: values for entity, values in present.items() if values})
        except KafkaError as error:
            for result in results:
                if not result.error_code:
                    result.error_code, result.error_message = error.code, error.detail
    return AlterClientQuotasResponse(entries=results)


def _apply(present: Present, entry: EntryData, seen: set[Entity]) -> None:
    entity = check_entity([(part.entity_type, part.entity_name) for part in entry.entity])
    if entity in seen:
        raise InvalidQuota(f"Ignoring duplicate entity {dict(entity)}")
    seen.add(entity)
    values = dict(present.get(entity, {}))
    keys: set[str] = set()
    for change in entry.ops:
        if change.key in keys:
            raise InvalidQuota(f"Duplicate quota key {change.key} not updating quota for this entity {dict(entity)}")
        keys.add(change.key)
        if change.remove:
            values.pop(change.key, None)
        else:
            check_quota(entity, change.key, change.value)
            values[change.key] = change.value
    present[entity] = values

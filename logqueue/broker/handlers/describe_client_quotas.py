"""DescribeClientQuotas (48): the quotas of the entities that match a filter (KIP-546, KIP-612)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)
from logqueue.security.quota import IP, TYPES, Entity, InvalidQuota

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

EXACT, DEFAULT, ANY = 0, 1, 2  # match types


def handle(broker: Broker, request: DescribeClientQuotasRequest, slot: Slot) -> DescribeClientQuotasResponse:
    try:
        _check(request.components)
    except InvalidQuota as error:
        return DescribeClientQuotasResponse(error_code=error.code, error_message=error.detail, entries=None)
    return DescribeClientQuotasResponse(
        entries=[
            EntryData(
                entity=[EntityData(entity_type=kind, entity_name=name) for kind, name in sorted(entity, key=str)],
                values=[ValueData(key=key, value=value) for key, value in sorted(values.items())],
            )
            for entity, values in broker.security.quotas.by_entity.items()
            if _matches(entity, request.components, strict=request.strict)
        ]
    )


def _check(components: list[ComponentData]) -> None:
    kinds = [component.entity_type for component in components]
    for component in components:
        kind = component.entity_type
        if not kind:
            raise InvalidQuota("Unexpected empty filter component entity type")
        if kind not in TYPES:
            raise InvalidQuota(f"Custom entity type '{kind}' not supported", code=ErrorCode.UNSUPPORTED_VERSION)
        if kinds.count(kind) > 1:
            raise InvalidQuota(f"Entity type {kind} cannot appear more than once in the filter")
        if component.match_type == EXACT and component.match is None:
            raise InvalidQuota("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        if component.match_type in (DEFAULT, ANY) and component.match is not None:
            raise InvalidQuota("Request specified a match type without a name, but set match string.")
        if component.match_type not in (EXACT, DEFAULT, ANY):
            raise InvalidQuota(f"Unknown match type {component.match_type}")
    if IP in kinds and len(kinds) > 1:
        raise InvalidQuota(
            "Invalid entity filter component combination, IP filter component should not be used with others"
        )


def _matches(entity: Entity, components: list[ComponentData], *, strict: bool) -> bool:
    names = dict(entity)
    if strict and len(names) != len(components):
        return False
    for component in components:
        if component.entity_type not in names:
            return False
        name = names[component.entity_type]
        if component.match_type == EXACT and name != component.match:
            return False
        if component.match_type == DEFAULT and name is not None:
            return False
    return True

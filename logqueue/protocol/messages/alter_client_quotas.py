"""AlterClientQuotas (key 49): set and remove quotas (KIP-546)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, float64, int16, int32, string
from logqueue.protocol.schema import Message, Struct


class EntityData(Struct):
    entity_type: str = string()
    entity_name: str | None = string(nullable=0)


class OpData(Struct):
    key: str = string()
    value: float = float64()
    remove: bool = bool_()


class EntryData(Struct):
    entity: list[EntityData] = array(EntityData)
    ops: list[OpData] = array(OpData)


class AlterClientQuotasRequest(Message, key=ApiKey.ALTER_CLIENT_QUOTAS, versions=(0, 1), flexible=1):
    entries: list[EntryData] = array(EntryData)
    validate_only: bool = bool_()


class AlterClientQuotasResponseEntryData(Struct):
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    entity: list[EntityData] = array(EntityData)


class AlterClientQuotasResponse(Message, key=ApiKey.ALTER_CLIENT_QUOTAS, versions=(0, 1), flexible=1):
    throttle_time_ms: int = int32()
    entries: list[AlterClientQuotasResponseEntryData] = array(AlterClientQuotasResponseEntryData)

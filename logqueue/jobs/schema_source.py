"""Where schemas are registered: the schema topic of the log, or a registry elsewhere that the settings name."""

from __future__ import annotations

from typing import Any, Protocol

from logqueue_schemas.avro import InvalidSchema
from logqueue_schemas.job_status import StatusCodec
from logqueue_schemas.schema_records import Registration

from logqueue.jobs.avro_decoding import Decoder
from logqueue.jobs.errors import RegistrationFailed
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings


class Registry(Protocol):
    """A registry: `SchemaRegistry` over the log, `RemoteRegistry` over HTTP."""

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema of an id as far as known, or None: `refresh` and ask again."""

    def decoder_of(self, schema_id: int) -> Decoder | None:
        """A decoder of bodies of that schema id, or None (see `schema_of`)."""

    async def refresh(self) -> None:
        """Learn what has been registered since."""

    async def register(self, subject: str, schema: Any) -> Registration:
        """The registration of a schema, made if there is none and the subject's level allows it."""

    async def versions(self, subject: str) -> list[Registration]:
        """The versions of a subject, oldest first; empty if there is none."""

    async def check(self, subject: str, schema: Any) -> Registration | None:
        """The registration of a schema, None if it could be made; SchemaRefused if it could not."""

    async def subjects(self) -> list[str]:
        """The subjects that have a version."""

    async def status_codec(self) -> StatusCodec:
        """The codec of status records, its schema registered."""


async def register_declared(registry: Registry, subject: str, schema: Any) -> Registration:
    """`register` for the schema of a job: RegistrationFailed for one that is too large to be compared."""
    try:
        return await registry.register(subject, schema)
    except InvalidSchema as error:
        raise RegistrationFailed(
            f"Schema {subject!r} cannot be compared with the versions that are registered: {error}. Make it smaller, or"
            " give the job another type"
        ) from None


def open_registry(settings: Settings) -> Registry:
    """The registry of these settings; nothing is connected yet."""
    if settings.schema_registry_url is None:
        return SchemaRegistry(settings)
    from logqueue.jobs.remote_registry import RemoteRegistry

    return RemoteRegistry(settings)

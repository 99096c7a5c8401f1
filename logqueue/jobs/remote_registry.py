"""A schema registry elsewhere (Confluent's API over HTTP), in place of the schema topic. Shell over urllib, in threads.

Source: Confluent Schema Registry API reference. Ids are the ones that it counts. A subject without a level of its own
has that of `schema_rules` here, whatever the registry asks for beside it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from logqueue_schemas.evolution import Level
from logqueue_schemas.job_status import SCHEMA, SUBJECT_SUFFIX, StatusCodec
from logqueue_schemas.kinds import AVRO, KINDS, kind_of_schema, schema_of_text, text_of_schema
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import LevelSet, Registration

from logqueue.jobs.avro_decoding import Decoder, Decoders
from logqueue.jobs.errors import InvalidSetting, RegistrationFailed, RegistryUnreachable
from logqueue.jobs.schema_checks import check_next
from logqueue.jobs.schema_rules import level_of
from logqueue.jobs.settings import Settings

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
MAX_WANTED_IDS: Final = 1_000  # ids asked for and not known: an id is data of whoever writes to a topic
NOT_FOUND: Final = 404


class RemoteRegistry:
    """A client of a registry; see `schema_source.Registry`. Lookups answer from memory, `refresh` fetches the ids that
    were asked for and not known."""

    def __init__(self, settings: Settings) -> None:
        assert settings.schema_registry_url is not None, "the settings name a registry"
        self._settings = settings
        self._url = settings.schema_registry_url.rstrip("/")
        self._headers = {"Accept": f"{MEDIA_TYPE}, application/json", "Content-Type": MEDIA_TYPE}
        if settings.schema_registry_user is not None:
            pair = f"{settings.schema_registry_user}:{settings.schema_registry_password or ''}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._context: ssl.SSLContext | None = None
        self._known: dict[int, Any] = {}
        self._wanted: set[int] = set()
        self._decoders = Decoders(self.schema_of)

    def schema_of(self, schema_id: int) -> Any | None:
        """The schema of an id as far as known, or None: `refresh` and ask again."""
        schema = self._known.get(schema_id)
        if schema is None and len(self._wanted) < MAX_WANTED_IDS:
            self._wanted.add(schema_id)
        return schema

    def decoder_of(self, schema_id: int) -> Decoder | None:
        """A decoder of bodies of that schema id, or None (see `schema_of`)."""
        return self._decoders.of(schema_id)

    async def refresh(self) -> None:
        """Fetch the schemas of the ids that were asked for in vain; RegistryUnreachable."""
        wanted, self._wanted = self._wanted, set()
        while wanted:
            schema_id = wanted.pop()
            try:
                found = await self._ask("GET", f"/schemas/ids/{schema_id}")
            except RegistryUnreachable:
                self._wanted |= {schema_id, *wanted}
                raise
            if found is not None and _kind(found) in KINDS:
                self._known[schema_id] = schema_of_text(found["schema"], _kind(found))

    async def register(self, subject: str, schema: Any) -> Registration:
        """The registration of a schema, made if there is none and the subject's level allows it.

        Raises RegistryUnreachable, RegistrationFailed, SchemaRefused or InvalidSchema.
        """
        found = await self.check(subject, schema)
        if found is None:
            await self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", _body(schema))
            found = await self._find(subject, schema)
        if found is None:
            raise RegistrationFailed(f"Schema {subject} was registered at {self._url}, which does not find it")
        self._known[found.id] = schema
        return found

    async def check(self, subject: str, schema: Any) -> Registration | None:
        """The registration of a schema, None if it could be made; SchemaRefused if it could not."""
        found = await self._find(subject, schema)
        if found is None:
            await check_next(subject, schema, await self.versions(subject), await self._level(subject))
        return found

    async def versions(self, subject: str) -> list[Registration]:
        """The versions of a subject, oldest first; empty if there is none."""
        at = f"/subjects/{quote(subject, safe='')}/versions"
        numbers = await self._ask("GET", at) or []
        found = [await self._ask("GET", f"{at}/{number}") for number in numbers]
        return [_registration(one) for one in found if one is not None and _kind(one) in KINDS]

    async def subjects(self) -> list[str]:
        """The subjects that have a version."""
        return sorted(await self._ask("GET", "/subjects") or [])

    async def status_codec(self) -> StatusCodec:
        """The codec of status records, its schema registered under `<status topic>-value`."""
        registration = await self.register(self._settings.topics.status + SUBJECT_SUFFIX, SCHEMA)
        return StatusCodec(registration.id, schema_of=self.schema_of)

    async def _find(self, subject: str, schema: Any) -> Registration | None:
        found = await self._ask("POST", f"/subjects/{quote(subject, safe='')}", _body(schema))
        return None if found is None else _registration(found)

    async def _level(self, subject: str) -> Level:
        table = SchemaTable()
        for name, path in ((None, "/config"), (subject, f"/config/{quote(subject, safe='')}")):
            said = await self._ask("GET", path)
            if said is not None and said.get("compatibilityLevel") in set(Level):
                table.apply(*LevelSet(subject=name, level=Level(said["compatibilityLevel"])).pair())
        return level_of(table, self._settings.topics, subject)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Any | None:
        """The JSON of an answer, None for 404."""
        return await asyncio.to_thread(self._ask_blocking, method, path, body)

    def _ask_blocking(self, method: str, path: str, body: bytes | None) -> Any | None:
        request = urllib.request.Request(self._url + path, data=body, headers=self._headers, method=method)  # noqa: S310 - http or https: settings
        try:
            with urllib.request.urlopen(  # noqa: S310 - see above
                request, timeout=self._settings.request_timeout_s, context=self._tls()
            ) as answer:
                return _read(answer.read(MAX_ANSWER_BYTES + 1), self._url)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == NOT_FOUND:
                    return None
                text = error.read(10_000).decode("utf-8", "replace")
            if error.code >= 500 or error.code == 429:
                raise RegistryUnreachable(f"The schema registry {self._url} answers {error.code}: {text}") from None
            raise RegistrationFailed(f"The schema registry {self._url} refuses {path}: {error.code} {text}") from None
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise RegistryUnreachable(f"The schema registry {self._url} does not answer: {reason}") from None

    def _tls(self) -> ssl.SSLContext | None:
        if self._context is None and self._url.startswith("https:"):
            try:
                self._context = ssl.create_default_context(cafile=self._settings.ssl_cafile)
            except (OSError, ValueError) as error:
                raise InvalidSetting(f"ssl_cafile cannot be used: {error}") from None
        return self._context


def _read(raw: bytes, url: str) -> Any:
    if len(raw) > MAX_ANSWER_BYTES:
        raise RegistryUnreachable(f"The schema registry {url} answers with more than {MAX_ANSWER_BYTES:,} bytes")
    return json.loads(raw)


def _body(schema: Any) -> bytes:
    return json.dumps({"schema": text_of_schema(schema), "schemaType": kind_of_schema(schema)}).encode()


def _kind(document: Any) -> str:
    kind: str = document.get("schemaType") or AVRO  # Confluent's registry leaves it out for Avro
    return kind


def _registration(document: Any) -> Registration:
    return Registration(
        subject=document["subject"],
        version=document["version"],
        id=document["id"],
        schema=document["schema"],
        kind=_kind(document),
    )

"""The paths of Confluent's Schema Registry: an app of its own, since its errors and media type are its own.

Source: Confluent Schema Registry API reference. Avro and JSON Schema are taken. Protobuf, references between schemas,
metadata and rules are refused (42201); contexts are the default one.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiokafka.errors import KafkaError as ClientError
from logqueue_schemas.avro import InvalidSchema
from logqueue_schemas.evolution import Level
from logqueue_schemas.kinds import AVRO, KINDS, read_text
from logqueue_schemas.schema_records import MODES, Registration
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from logqueue.errors import LogqueueError
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import CUT_SHORT
from logqueue_api.rest.registry import faults
from logqueue_api.rest.registry.desk import RegistryDesk, version_of, versions_of
from logqueue_api.rest.registry.faults import MEDIA_TYPE, RegistryFault, answer, on_error

_VERSION: Final = "/subjects/{subject:path}/versions/{version}"
PATHS: Final = (
    ("GET", "/", "root"),
    ("GET", "/contexts", "contexts"),
    ("GET", "/schemas", "schemas"),
    ("GET", "/schemas/types", "types"),
    ("GET", "/schemas/ids/{id}", "schema"),
    ("GET", "/schemas/ids/{id}/schema", "schema_text"),
    ("GET", "/schemas/ids/{id}/subjects", "schema_subjects"),
    ("GET", "/schemas/ids/{id}/versions", "schema_versions"),
    ("GET", "/subjects", "subjects"),
    ("GET", "/subjects/{subject:path}/versions", "versions"),
    ("POST", "/subjects/{subject:path}/versions", "register"),
    ("GET", f"{_VERSION}/schema", "version_text"),
    ("GET", f"{_VERSION}/referencedby", "referenced_by"),
    ("GET", _VERSION, "version"),
    ("DELETE", _VERSION, "delete_version"),
    ("POST", "/subjects/{subject:path}", "look_up"),
    ("DELETE", "/subjects/{subject:path}", "delete_subject"),
    ("POST", "/compatibility/subjects/{subject:path}/versions/{version}", "compatibility"),
    ("POST", "/compatibility/subjects/{subject:path}/versions", "compatibility"),
    ("GET", "/config", "level"),
    ("PUT", "/config", "set_level"),
    ("DELETE", "/config", "drop_level"),
    ("GET", "/config/{subject:path}", "level"),
    ("PUT", "/config/{subject:path}", "set_level"),
    ("DELETE", "/config/{subject:path}", "drop_level"),
    ("GET", "/mode", "mode"),
    ("PUT", "/mode", "set_mode"),
    ("GET", "/mode/{subject:path}", "mode"),
    ("PUT", "/mode/{subject:path}", "set_mode"),
    ("DELETE", "/mode/{subject:path}", "drop_mode"),
)
"""Method, path, and the handler of RegistryRoutes."""

MAX_BODY_BYTES: Final = 1024 * 1024
_MEDIA: Final = ("application/json", "application/octet-stream")  # besides +json, as in Confluent's API
_UNSUPPORTED: Final = ("references", "metadata", "ruleSet")

# Starlette hands an error on to the server after a handler of Exception, but not after one of a narrower kind.
_EXPECTED: Final = dict.fromkeys(
    (HTTPException, InvalidSchema, LogqueueError, ClientError, TimeoutError, OSError), on_error
)


class RegistryRoutes:
    """The handlers over one desk."""

    def __init__(self, desk: RegistryDesk) -> None:
        self._desk = desk

    def app(self) -> Starlette:
        """The app to be mounted."""
        routes = [Route(path, getattr(self, name), methods=[method]) for method, path, name in PATHS]
        return Starlette(routes=routes, exception_handlers={Exception: on_error, **_EXPECTED})

    async def root(self, request: Request) -> Response:
        """What clients ask to see whether anybody is there."""
        return answer({})

    async def contexts(self, request: Request) -> Response:
        """The default context alone."""
        return answer(["."])

    async def types(self, request: Request) -> Response:
        """Of the schemas that are taken."""
        return answer(list(KINDS))

    async def schemas(self, request: Request) -> Response:
        """All versions of all subjects; `latestOnly`, `subjectPrefix`, `deleted`."""
        table = await self._desk.table()
        deleted = _flag(request, "deleted")
        prefix = request.query_params.get("subjectPrefix", "")
        is_latest = _flag(request, "latestOnly")
        found: list[dict[str, Any]] = []
        for subject in table.subjects(deleted=deleted):
            if subject.startswith(prefix):
                versions = table.versions(subject, deleted=deleted)
                found += [_document(one) for one in (versions[-1:] if is_latest else versions)]
        return answer(_page(request, found))

    async def schema(self, request: Request) -> Response:
        """The schema of an id."""
        first = await self._desk.first_of(_id(request))
        document = {"schema": first.schema}
        if first.kind != AVRO:
            document["schemaType"] = first.kind
        return answer(document)

    async def schema_text(self, request: Request) -> Response:
        """The same, bare."""
        return _bare(await self._desk.first_of(_id(request)))

    async def schema_subjects(self, request: Request) -> Response:
        """The subjects that have the id."""
        return answer(_page(request, sorted({one.subject for one in await self._uses(request)})))

    async def schema_versions(self, request: Request) -> Response:
        """The subjects and versions that have the id."""
        uses = [{"subject": one.subject, "version": one.version} for one in await self._uses(request)]
        return answer(_page(request, uses))

    async def subjects(self, request: Request) -> Response:
        """The names; `subjectPrefix`, `deleted`, `deletedOnly`."""
        table = await self._desk.table()
        names = table.subjects(deleted=_flag(request, "deleted") or _flag(request, "deletedOnly"))
        if _flag(request, "deletedOnly"):
            live = set(table.subjects())
            names = [name for name in names if name not in live]
        prefix = request.query_params.get("subjectPrefix", "")
        return answer(_page(request, [name for name in names if name.startswith(prefix)]))

    async def versions(self, request: Request) -> Response:
        """The numbers of a subject's versions."""
        table = await self._desk.table()
        versions = versions_of(table, _subject(request), deleted=_flag(request, "deleted"))
        return answer(_page(request, [one.version for one in versions]))

    async def version(self, request: Request) -> Response:
        """One version."""
        return answer(_document(await self._version(request)))

    async def version_text(self, request: Request) -> Response:
        """Its schema, bare."""
        return _bare(await self._version(request))

    async def referenced_by(self, request: Request) -> Response:
        """Nobody, as references are not taken."""
        await self._version(request)
        return answer([])

    async def register(self, request: Request) -> Response:
        """A schema under a subject; the same one again has the same id."""
        made = await self._desk.register(_subject(request), await _schema(request), by=actor_of(request))
        return answer(_document(made))

    async def look_up(self, request: Request) -> Response:
        """The version of a schema under a subject."""
        subject = _subject(request)
        found = await self._desk.look_up(subject, await _schema(request), deleted=_flag(request, "deleted"))
        return answer(_document(found))

    async def delete_subject(self, request: Request) -> Response:
        """`permanent` after it was deleted once."""
        permanent = _flag(request, "permanent")
        return answer(await self._desk.delete_subject(_subject(request), permanent=permanent, by=actor_of(request)))

    async def delete_version(self, request: Request) -> Response:
        """`permanent` after it was deleted once."""
        permanent, version = _flag(request, "permanent"), request.path_params["version"]
        deleted = await self._desk.delete_version(_subject(request), version, permanent=permanent, by=actor_of(request))
        return answer(deleted)

    async def compatibility(self, request: Request) -> Response:
        """Whether a schema could follow one version, or those that are there; `verbose` says why not."""
        schema = await _schema(request)
        conflicts = await self._desk.conflicts(_subject(request), schema, request.path_params.get("version"))
        document: dict[str, Any] = {"is_compatible": not conflicts}
        if _flag(request, "verbose"):
            document["messages"] = [str(conflict) for conflict in conflicts]
        return answer(document)

    async def level(self, request: Request) -> Response:
        """What is asked of the next version; `defaultToGlobal` for a subject that has nothing of its own."""
        level = await self._desk.level(_maybe_subject(request), or_global=_flag(request, "defaultToGlobal"))
        return answer({"compatibilityLevel": level.value})

    async def set_level(self, request: Request) -> Response:
        """Set it."""
        wanted = (await _body(request)).get("compatibility")
        if wanted not in list(Level):
            allowed = ", ".join(sorted(Level))
            raise RegistryFault(
                faults.INVALID_LEVEL, f"Invalid compatibility level {wanted!r}. Valid values are {allowed}"
            )
        await self._desk.set_level(_maybe_subject(request), Level(wanted), by=actor_of(request))
        return answer({"compatibility": wanted})

    async def drop_level(self, request: Request) -> Response:
        """Take it back."""
        before = await self._desk.set_level(_maybe_subject(request), None, by=actor_of(request))
        return answer({"compatibilityLevel": before.value})

    async def mode(self, request: Request) -> Response:
        """Whether new versions are taken."""
        mode = await self._desk.mode(_maybe_subject(request), or_global=_flag(request, "defaultToGlobal"))
        return answer({"mode": mode})

    async def set_mode(self, request: Request) -> Response:
        """READWRITE or READONLY."""
        wanted = (await _body(request)).get("mode")
        if wanted not in MODES:
            raise RegistryFault(faults.INVALID_MODE, f"Invalid mode {wanted!r}. Valid values are {', '.join(MODES)}")
        await self._desk.set_mode(_maybe_subject(request), wanted, by=actor_of(request))
        return answer({"mode": wanted})

    async def drop_mode(self, request: Request) -> Response:
        """Take it back."""
        return answer({"mode": await self._desk.set_mode(_maybe_subject(request), None, by=actor_of(request))})

    async def _version(self, request: Request) -> Registration:
        table = await self._desk.table()
        version = request.path_params["version"]
        return version_of(table, _subject(request), version, deleted=_flag(request, "deleted"))

    async def _uses(self, request: Request) -> list[Registration]:
        schema_id = _id(request)
        await self._desk.first_of(schema_id)
        table = await self._desk.table()
        return [one for one in table.registrations(deleted=_flag(request, "deleted")) if one.id == schema_id]


def _document(registration: Registration) -> dict[str, Any]:
    return {
        "subject": registration.subject,
        "version": registration.version,
        "id": registration.id,
        "schemaType": registration.kind,
        "schema": registration.schema,
    }


def _bare(registration: Registration) -> Response:
    """The text as it is on the log: whoever else registered it, it need not be what our JSON would write."""
    return Response(registration.schema, media_type=MEDIA_TYPE)


def _subject(request: Request) -> str:
    subject: str = request.path_params["subject"]
    if not subject.isprintable():
        raise RegistryFault(42208, f"The specified subject {subject!r} is not a valid subject")
    return subject


def _maybe_subject(request: Request) -> str | None:
    return _subject(request) if "subject" in request.path_params else None


def _id(request: Request) -> int:
    text: str = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise RegistryFault(404, f"HTTP 404 Not Found: {text!r} is no schema id")
    return int(text)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise RegistryFault(faults.UNREADABLE, f"{name}={text!r} is not true or false")
    return text == "true"


def _page(request: Request, items: list[Any]) -> list[Any]:
    """`offset` and `limit` (-1: all), as Confluent's lists take them."""
    try:
        offset, limit = int(request.query_params.get("offset", "0")), int(request.query_params.get("limit", "-1"))
    except ValueError:
        raise RegistryFault(faults.UNREADABLE, "offset and limit are numbers") from None
    start = max(0, offset)
    return items[start:] if limit < 0 else items[start : start + limit]


async def _schema(request: Request) -> Any:
    """The schema of a request's body, checked."""
    body = await _body(request)
    kind = body.get("schemaType") or AVRO
    if kind not in KINDS:
        raise RegistryFault(faults.INVALID_SCHEMA, f"Schemas of type {kind!r} are not taken: {' and '.join(KINDS)} are")
    for name in _UNSUPPORTED:
        if body.get(name):
            raise RegistryFault(faults.INVALID_SCHEMA, f"{name!r} of a schema is not supported")
    text = body.get("schema")
    if not isinstance(text, str):
        raise RegistryFault(faults.INVALID_SCHEMA, "'schema' is the schema's text (a JSON string)")
    return read_text(text, kind)


async def _body(request: Request) -> dict[str, Any]:
    # What a foreign web page can send without asking first is not taken, for the reason that `answers.read_body` has.
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA and not media.endswith("+json"):
        raise RegistryFault(415, f"HTTP 415 Unsupported Media Type: {media!r}; send {MEDIA_TYPE} or application/json")
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                raise RegistryFault(413, f"the body has more than {MAX_BODY_BYTES:,} bytes")
    except ClientDisconnect:
        raise RegistryFault(faults.UNREADABLE, CUT_SHORT) from None
    try:
        document = orjson.loads(raw)
    except ValueError as error:
        raise RegistryFault(faults.UNREADABLE, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RegistryFault(faults.UNREADABLE, "the body is not a JSON object")
    return document

"""Errors of the registry's API: `{"error_code": ..., "message": ...}`; the one place where exceptions become them.

Source of the codes: Confluent Schema Registry API reference, "Errors".
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import structlog
from aiokafka.errors import KafkaError as ClientError
from logqueue_schemas.avro import InvalidSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from logqueue.errors import LogqueueError
from logqueue.jobs.schema_rules import SchemaRefused

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"

SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
SCHEMA_NOT_FOUND: Final = 40403
SUBJECT_SOFT_DELETED: Final = 40404
SUBJECT_NOT_SOFT_DELETED: Final = 40405
VERSION_SOFT_DELETED: Final = 40406
VERSION_NOT_SOFT_DELETED: Final = 40407
NO_LEVEL: Final = 40408
NO_MODE: Final = 40409
INCOMPATIBLE: Final = 409
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202
INVALID_LEVEL: Final = 42203
INVALID_MODE: Final = 42204
NOT_PERMITTED: Final = 42205
UNREADABLE: Final = 400
LOG_UNAVAILABLE: Final = 50001

_log = structlog.get_logger("logqueue.api")


class RegistryFault(LogqueueError):
    """An answer that is an error. The HTTP status is the first three digits of the code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def answer(document: Any, *, status: int = 200) -> Response:
    """JSON in the registry's own media type."""
    return Response(orjson.dumps(document), status_code=status, media_type=MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> Response:
    """Any error as the answer that clients of the registry understand."""
    fault = _fault_of(error)
    if fault is None:
        _log.error("a request failed", path=request.url.path, exc_info=error)
        fault = RegistryFault(500, "the API failed on this request; its log has the reason")
    status = int(str(fault.code)[:3])
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    response = answer({"error_code": fault.code, "message": fault.message}, status=status)
    response.headers.update(headers)
    return response


def _fault_of(error: Exception) -> RegistryFault | None:
    match error:
        case RegistryFault():
            return error
        case SchemaRefused():
            return RegistryFault(INCOMPATIBLE, str(error))
        case InvalidSchema():
            return RegistryFault(INVALID_SCHEMA, str(error))
        case HTTPException():
            return RegistryFault(error.status_code, f"HTTP {error.status_code} {error.detail}")
        case LogqueueError() | ClientError() | TimeoutError() | OSError():
            return RegistryFault(LOG_UNAVAILABLE, f"the log does not answer: {str(error) or type(error).__name__}")
        case _:
            return None

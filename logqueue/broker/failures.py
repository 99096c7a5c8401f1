"""What a client is told when its request failed in a way that its handler did not foresee. Imported when one does.

As Kafka does (`getErrorResponse` of its requests): the code stands in the response's own `error_code`, or in one answer
for each thing that was asked for, down to the partitions. These are made from the declarations of the two messages:
answers stand in the order of the request's arrays, and their keys have the names that they have in the request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import response_type, write_response
from logqueue.protocol.schema import ARRAY, INT32, STRING, Field, Message, Struct

log = logging.getLogger("logqueue.broker")

_OTHER_NAMES = {"partition_index": "partition", "topic_name": "name", "user": "name"}
"""Keys that are called otherwise in some requests."""

_ASKED: dict[int, Callable[[Any], list[Any]]] = {
    ApiKey.ALTER_REPLICA_LOG_DIRS: lambda request: [topic for each in request.dirs for topic in each.topics],
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: lambda request: [*request.deletions, *request.upsertions],
}
"""What was asked for, where the answers do not follow the request's arrays."""


def answer_failure(error: Exception, request: Message, slot: Slot) -> bool:
    """Answer a request with what went wrong, and tell the log; False if its kind has no answer, or it has one."""
    if slot.segments is not None:
        return False
    response = failure_response(request, slot.api_version, code_of(error), slot.header.api_key)
    if response is None:
        return False
    if slot.abandon is not None:
        slot.abandon()  # what the handler left waiting would answer a second time
    key, version, correlation_id, _ = slot.header
    slot.fill(write_response(key, version, correlation_id, response))
    name, peer = ApiKey(key).name, slot.session.peer
    if isinstance(error, KafkaError | OSError):
        log.error("%s of %s failed: %s", name, peer, error)
    else:
        log.error("%s of %s failed in an unforeseen way; please report this", name, peer, exc_info=error)
    return True


def code_of(error: Exception) -> ErrorCode:
    """The code of an exception: its own, that of a failing disk, or that of a bug."""
    if isinstance(error, KafkaError):
        return error.code
    return ErrorCode.KAFKA_STORAGE_ERROR if isinstance(error, OSError) else ErrorCode.UNKNOWN_SERVER_ERROR


def failure_response(request: Message, version: int, code: ErrorCode, key: int) -> Message | None:
    """The response that refuses a whole request; None if nothing of it can carry a code."""
    if key == ApiKey.PRODUCE and getattr(request, "acks", None) == 0:
        return None
    kind = response_type(key)
    response = kind()
    if any(field.name == "error_code" for field in _present(kind, version)):
        response.error_code = code  # type: ignore[attr-defined]
        return response
    answers = [field for field in _arrays(kind, version) if _carries_code(field.item, version)]
    asked = [getattr(request, field.name) for field in _arrays(type(request), version)]
    if key in _ASKED:
        asked = [_ASKED[key](request)]
    for wanted, answer in zip(asked, answers, strict=False):
        setattr(response, answer.name, _mirror(wanted, answer.item, version, code))
    return response if asked and answers else None


def _mirror(asked: list[Any] | None, kind: type[Struct], version: int, code: ErrorCode) -> list[Struct]:
    """An answer with the code for each thing that was asked for."""
    return [_answer(each, kind, version, code) for each in asked or ()]


def _answer(asked: Any, kind: type[Struct], version: int, code: ErrorCode) -> Struct:
    answer = kind()
    given = {field.name: field for field in type(asked).fields} if isinstance(asked, Struct) else {}
    arrays = iter(_arrays(type(asked), version) if given else ())
    for field in _present(kind, version):
        if field.name.endswith("error_code"):
            setattr(answer, field.name, code)
        elif field.kind is ARRAY and _carries_code(field.item, version):
            wanted = next(arrays, None)
            inner = None if wanted is None else getattr(asked, wanted.name)
            setattr(answer, field.name, _mirror(inner, field.item, version, code))
        else:
            same = given.get(field.name) or given.get(_OTHER_NAMES.get(field.name, ""))
            if same is not None and (same.kind, same.item) == (field.kind, field.item):
                setattr(answer, field.name, getattr(asked, same.name))
    if not given:
        setattr(answer, _key_of(kind, asked, version), asked)
    return answer


def _key_of(kind: type[Struct], asked: str | int, version: int) -> str:
    """The field of an answer that says what was asked for: the first that can hold it."""
    wanted = STRING if isinstance(asked, str) else INT32
    return next(
        field.name
        for field in _present(kind, version)
        if field.kind is wanted and not field.name.endswith(("error_code", "error_message"))
    )


def _present(kind: type[Struct], version: int) -> Iterator[Field]:
    return (field for field in kind.fields if field.is_in(version))


def _arrays(kind: type[Struct], version: int) -> list[Field]:
    return [field for field in _present(kind, version) if field.kind is ARRAY]


def _carries_code(kind: Any, version: int) -> bool:
    """Whether there is a code in a struct, or in what it holds."""
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return False
    return any(
        field.name.endswith("error_code") or (field.kind is ARRAY and _carries_code(field.item, version))
        for field in _present(kind, version)
    )

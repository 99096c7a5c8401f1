"""Whole requests and responses: headers, the size prefix, and which message stands behind an API key.

A frame is a 4-byte size and that many bytes; readers here take the bytes after the size. Request header v1 is key,
version, correlation id, client id; v2 adds a tag buffer, and its client id stays a plain string (KIP-482). Response
header v0 is the correlation id; v1 adds a tag buffer, but not for ApiVersions, whose client cannot know what to expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from struct import Struct as Packing
from struct import error as struct_error
from typing import Any, NamedTuple

from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.api import FLEXIBLE_SINCE, ApiKey
from logqueue.protocol.schema import Message
from logqueue.protocol.versions import ADVERTISED, FINALIZED_FEATURES, SERVED, SUPPORTED_FEATURES
from logqueue.protocol.wire import MalformedFrame, Segment, UnsupportedVersion, skip_tags

_REQUEST_HEAD = Packing(">hhih")  # key, version, correlation id, length of the client id
_SIZED_REQUEST_HEAD = Packing(">ihhih")
_RESPONSE_HEAD_V0 = Packing(">ii")  # size, correlation id
_RESPONSE_HEAD_V1 = Packing(">iix")
_CORRELATION_ID = Packing(">i")
_SIZE_BYTES = 4

_requests: dict[int, type[Message]] = {}
_responses: dict[int, type[Message]] = {}
# Keyed by key << 16 | version: what one request costs is counted in tenths of a microsecond.
_request_readers: dict[int, Any] = {}
_response_writers: dict[int, tuple[Any, Packing]] = {}


class RequestHeader(NamedTuple):
    """What stands before every request body."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


_header = RequestHeader._make


def _load(key: int) -> None:
    try:
        name = ApiKey(key).name
        module = import_module(f"logqueue.protocol.messages.{name.lower()}")
    except (ValueError, ModuleNotFoundError):
        raise UnsupportedVersion(f"API key {key} is not known") from None
    stem = name.title().replace("_", "")
    _requests[key] = getattr(module, f"{stem}Request")
    _responses[key] = getattr(module, f"{stem}Response")


def request_type(key: int) -> type[Message]:
    """The request class of an API key; its file is imported at the first call. Raises UnsupportedVersion."""
    if key not in _requests:
        _load(key)
    return _requests[key]


def response_type(key: int) -> type[Message]:
    """The response class of an API key; its file is imported at the first call. Raises UnsupportedVersion."""
    if key not in _responses:
        _load(key)
    return _responses[key]


def _has_response_tags(key: int, version: int) -> bool:
    return key != ApiKey.API_VERSIONS and version >= FLEXIBLE_SINCE.get(key, 0)


def _request_reader(key: int, version: int) -> Any:
    read = _request_readers[key << 16 | version] = codec.reader(request_type(key), version)
    return read


def _response_writer(key: int, version: int) -> tuple[Any, Packing]:
    head = _RESPONSE_HEAD_V1 if _has_response_tags(key, version) else _RESPONSE_HEAD_V0
    made = _response_writers[key << 16 | version] = codec.writer(response_type(key), version), head
    return made


def read_request_header(buf: memoryview, offset: int = 0) -> tuple[RequestHeader, int]:
    """Read the header: (header, position of the body). Raises MalformedFrame, also for keys that nobody knows."""
    try:
        key, version, correlation_id, length = _REQUEST_HEAD.unpack_from(buf, offset)
        flexible = FLEXIBLE_SINCE.get(key)
        if flexible is None:
            raise MalformedFrame(f"API key {key} is not known")
        pos = offset + _REQUEST_HEAD.size
        client_id = None
        if length >= 0:
            client_id = buf[pos : pos + length].tobytes().decode()
            pos += length
        if version >= flexible:
            pos = pos + 1 if buf[pos] == 0 else skip_tags(buf, pos)
    except (struct_error, IndexError, UnicodeDecodeError) as problem:
        raise MalformedFrame(f"request header: {problem}") from None
    if pos > len(buf):
        raise MalformedFrame(f"request header: {pos - len(buf)} bytes are missing")
    return _header((key, version, correlation_id, client_id)), pos


def read_request(key: int, version: int, buf: memoryview, offset: int = 0) -> Any:
    """Read a request body. Records stay slices of `buf`.

    Bytes after the body are ignored, as Kafka does. Raises MalformedFrame; UnsupportedVersion where the schema table
    has no such version (whether it is served is another question: `versions.SERVED`).
    """
    read = _request_readers.get(key << 16 | version) or _request_reader(key, version)
    return read(buf, offset)[0]


def write_response(key: int, version: int, correlation_id: int, message: Message) -> list[Segment]:
    """The whole response, size prefix included, as segments in order; records are segments of their own."""
    write, head = _response_writers.get(key << 16 | version) or _response_writer(key, version)
    segments: list[Segment] = write(message)
    size = head.size - _SIZE_BYTES
    for segment in segments:
        size += len(segment)
    segments[0] = head.pack(size, correlation_id) + segments[0]  # type: ignore[operator]  # the first is always bytes
    return segments


def write_request(header: RequestHeader, message: Message) -> list[Segment]:
    """The whole request, size prefix included, as segments in order: the client's side of `read_request`."""
    key, version, correlation_id, client_id = header
    segments: list[Segment] = codec.writer(type(message), version)(message)
    text = b"" if client_id is None else client_id.encode()
    after = b"\0" if version >= FLEXIBLE_SINCE[key] else b""
    size = _REQUEST_HEAD.size + len(text) + len(after) + sum(map(len, segments))
    length = -1 if client_id is None else len(text)
    head = _SIZED_REQUEST_HEAD.pack(size, key, version, correlation_id, length)
    segments[0] = head + text + after + segments[0]  # type: ignore[operator]  # the first is always bytes
    return segments


def read_response(key: int, version: int, buf: memoryview, offset: int = 0) -> tuple[int, Any]:
    """Read a response after its size prefix: (correlation id, message). Raises as `read_request` does."""
    try:
        correlation_id: int = _CORRELATION_ID.unpack_from(buf, offset)[0]
        pos = offset + _CORRELATION_ID.size
        if _has_response_tags(key, version):
            pos = skip_tags(buf, pos)
    except (struct_error, IndexError) as problem:
        raise MalformedFrame(f"response header: {problem}") from None
    return correlation_id, codec.reader(response_type(key), version)(buf, pos)[0]


def api_versions_response(
    error_code: ErrorCode = ErrorCode.NONE,
    *,
    throttle_time_ms: int = 0,
    finalized: Mapping[str, int] | None = None,
    finalized_epoch: int = 0,
) -> Any:
    """The ApiVersions answer: every advertised API, and the features (which versions below 3 leave out).

    `finalized` are the levels of a node after `finalized_epoch` changes; without it, those of a new node.
    """
    from logqueue.protocol.messages.api_versions import (
        ApiVersion,
        ApiVersionsResponse,
        FinalizedFeatureKey,
        SupportedFeatureKey,
    )

    if finalized is None:
        finalized = {name: levels.max for name, levels in FINALIZED_FEATURES.items()}
    return ApiVersionsResponse(
        error_code=error_code,
        throttle_time_ms=throttle_time_ms,
        api_keys=[ApiVersion(api_key=k, min_version=v.min, max_version=v.max) for k, v in ADVERTISED.items()],
        supported_features=[
            SupportedFeatureKey(name=name, min_version=v.min, max_version=v.max)
            for name, v in SUPPORTED_FEATURES.items()
        ],
        finalized_features_epoch=finalized_epoch,
        finalized_features=[
            FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
            for name, level in finalized.items()
        ],
    )


def write_unsupported_api_versions(correlation_id: int) -> list[Segment]:
    """The answer to an ApiVersions request of a version that is not served: version 0, error 35 (KIP-511)."""
    from logqueue.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse

    served = SERVED[ApiKey.API_VERSIONS]
    own = ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=served.min, max_version=served.max)
    response = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[own])
    return write_response(ApiKey.API_VERSIONS, 0, correlation_id, response)

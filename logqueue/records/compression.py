"""Codecs of record batches, in the framings that Kafka's clients read. Imports cramjam only when a codec is used.

gzip: RFC 1952. snappy: xerial blocks (snappy-java's SnappyOutputStream); raw blocks are read too. lz4: frames with
independent blocks, because Kafka's Java client refuses linked ones. zstd: plain frames (KIP-110).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct

from logqueue.records.errors import CorruptMessage, UnsupportedCompressionType

MAX_DECOMPRESSED_BYTES = 256 * 1024 * 1024
"""Most bytes that one batch may unpack to: a bound against decompression bombs."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK = 32 * 1024
_BE_LENGTH = Struct(">i")

# Frame magic; version 1 with independent blocks; blocks of 64 KiB; second byte of xxHash32 of those two bytes.
_LZ4_FRAME = b"\x04\x22\x4d\x18\x60\x40\x82"
_LZ4_BLOCK = 64 * 1024
_LZ4_STORED = 0x8000_0000
_LE_LENGTH = Struct("<I")

_BUFFER_TOO_SMALL = "failed to write whole buffer"  # Rust's WriteZero, as cramjam words it
_FIRST_GUESS = 4  # how many times larger unpacked records are taken to be
_SMALLEST_BUFFER = 64 * 1024


class Codec(IntEnum):
    """Codec numbers as they stand in a batch's attributes; names as in `compression.type`."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODECS = {"none": Codec.NONE, "uncompressed": Codec.NONE} | {c.name.lower(): c for c in Codec if c}


ZSTD_LEVEL = 3
LZ4_FAST_LEVEL = 9  # Kafka's default level means the fast mode of LZ4, all others its thorough one


def compress(codec: int, data: bytes | bytearray | memoryview, level: int | None = None) -> bytes:
    """Compress records as one block of `codec`, at its default level unless one is given (KIP-390).

    Raises UnsupportedCompressionType.
    """
    return _known(codec)[0](data, level)


def decompress(codec: int, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """Unpack the records of a batch; at most MAX_DECOMPRESSED_BYTES.

    Raises CorruptMessage for bytes that are not of that codec or too many, UnsupportedCompressionType for a number
    that no codec has.
    """
    return _known(codec)[1](data)


_Data = bytes | bytearray | memoryview


_Packer = Callable[[_Data, int | None], bytes]
_Unpacker = Callable[[_Data], _Data]


def _known(codec: int) -> tuple[_Packer, _Unpacker]:
    try:
        return _CODECS[codec]
    except KeyError:
        raise UnsupportedCompressionType(f"Compression codec {codec} does not exist") from None


def _copy(data: _Data, level: int | None) -> bytes:
    return bytes(data)


def _identity(data: _Data) -> _Data:
    return data


def _gzip(data: _Data, level: int | None) -> bytes:
    packer = zlib.compressobj(level=-1 if level is None else level, wbits=16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _gunzip(data: _Data) -> _Data:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        out = unpacker.decompress(data, MAX_DECOMPRESSED_BYTES)
    except zlib.error as error:
        raise CorruptMessage(f"Records are not gzip: {error}") from None
    if not unpacker.eof:
        raise CorruptMessage(f"Records are cut gzip, or more than {MAX_DECOMPRESSED_BYTES} bytes")
    return out


def _snappy(data: _Data, level: int | None) -> bytes:
    from cramjam import snappy

    view = memoryview(data)
    out = bytearray(_XERIAL_HEADER)
    for start in range(0, len(view), _XERIAL_BLOCK):
        block = bytes(snappy.compress_raw(view[start : start + _XERIAL_BLOCK]))
        out += _BE_LENGTH.pack(len(block)) + block
    return bytes(out)


def _unsnappy(data: _Data) -> _Data:
    view = memoryview(data)
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _unsnappy_block(view, MAX_DECOMPRESSED_BYTES)
    out = bytearray()
    position = len(_XERIAL_HEADER)
    while position < len(view):
        if len(view) - position < _BE_LENGTH.size:
            raise CorruptMessage("Snappy records end inside a block length")
        (length,) = _BE_LENGTH.unpack_from(view, position)
        position += _BE_LENGTH.size
        if not 0 <= length <= len(view) - position:
            raise CorruptMessage(f"Snappy block needs {length} bytes, {len(view) - position} are there")
        out += _unsnappy_block(view[position : position + length], MAX_DECOMPRESSED_BYTES - len(out))
        position += length
    return out


def _unsnappy_block(block: memoryview, limit: int) -> bytes:
    from cramjam import DecompressionError, snappy

    try:
        size = snappy.decompress_raw_len(block)
        if size > limit:
            raise CorruptMessage(f"Snappy records unpack to more than {MAX_DECOMPRESSED_BYTES} bytes")
        return bytes(snappy.decompress_raw(block))
    except DecompressionError as error:
        raise CorruptMessage(f"Records are not snappy: {error}") from None


def _lz4(data: _Data, level: int | None) -> bytes:
    view = memoryview(data)
    out = bytearray(_LZ4_FRAME)
    for start in range(0, len(view), _LZ4_BLOCK):
        plain = view[start : start + _LZ4_BLOCK]
        block = _lz4_block(plain, level)
        if len(block) < len(plain):
            out += _LE_LENGTH.pack(len(block)) + block
        else:
            out += _LE_LENGTH.pack(len(plain) | _LZ4_STORED)
            out += plain
    out += _LE_LENGTH.pack(0)
    return bytes(out)


def _lz4_block(plain: memoryview, level: int | None) -> bytes:
    from cramjam import lz4

    if level in (None, LZ4_FAST_LEVEL):
        return bytes(lz4.compress_block(plain, store_size=False))
    # cramjam's block call knows no level, its frame call does: the only block of a frame, without its size, is one.
    frame = bytes(lz4.compress(plain, level=level))
    (size,) = _LE_LENGTH.unpack_from(frame, len(_LZ4_FRAME))
    start = len(_LZ4_FRAME) + _LE_LENGTH.size
    return bytes(plain) if size & _LZ4_STORED else frame[start : start + size]


def _unlz4(data: _Data) -> _Data:
    from cramjam import lz4

    return _grow_into(lz4.decompress_into, data, "lz4")


def _zstd(data: _Data, level: int | None) -> bytes:
    from cramjam import zstd

    return bytes(zstd.compress(data, level=ZSTD_LEVEL if level is None else level))


def _unzstd(data: _Data) -> _Data:
    from cramjam import zstd

    return _grow_into(zstd.decompress_into, data, "zstd")


def _grow_into(unpack_into: Callable[[_Data, bytearray], int], data: _Data, name: str) -> memoryview:
    """Unpack into a buffer that grows up to the bound: cramjam's own calls have none."""
    from cramjam import DecompressionError

    size = min(max(_FIRST_GUESS * len(data), _SMALLEST_BUFFER), MAX_DECOMPRESSED_BYTES)
    while True:
        out = bytearray(size)
        try:
            return memoryview(out)[: unpack_into(data, out)]
        except DecompressionError as error:
            if str(error) != _BUFFER_TOO_SMALL:
                raise CorruptMessage(f"Records are not {name}: {error}") from None
        if size == MAX_DECOMPRESSED_BYTES:
            raise CorruptMessage(f"{name} records unpack to more than {MAX_DECOMPRESSED_BYTES} bytes")
        size = min(size * _FIRST_GUESS, MAX_DECOMPRESSED_BYTES)


_CODECS: dict[int, tuple[_Packer, _Unpacker]] = {
    Codec.NONE: (_copy, _identity),
    Codec.GZIP: (_gzip, _gunzip),
    Codec.SNAPPY: (_snappy, _unsnappy),
    Codec.LZ4: (_lz4, _unlz4),
    Codec.ZSTD: (_zstd, _unzstd),
}

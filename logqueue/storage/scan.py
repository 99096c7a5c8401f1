"""Walking over the batches of a .log file, with and without trust. Knows no segments and no indexes."""

from __future__ import annotations

from collections.abc import Iterator

from logqueue.records.batch import (
    HEADER_SIZE,
    LENGTH_PREFIX,
    MIN_BATCH_LENGTH,
    BatchHeader,
    check_crc,
    parse_header,
)
from logqueue.records.errors import CorruptMessage
from logqueue.storage.errors import StorageError
from logqueue.storage.file_system import FileSystem
from logqueue.storage.open_files import OpenFile

SCAN_BYTES = 1024 * 1024
"""How much of a file a scan holds at once; a larger batch gets a buffer of its own."""

SKIM_BYTES = 64 * 1024
"""The same for a scan that only looks at headers."""


def stored_header(data: bytes, position: int) -> BatchHeader:
    """The header of a batch that is known to be whole, from its first bytes. Raises StorageError if it is none."""
    try:
        if len(data) < HEADER_SIZE:
            raise CorruptMessage(f"the file ends {len(data)} bytes behind {position}")
        length = int.from_bytes(data[8:LENGTH_PREFIX], "big", signed=True)
        return parse_header(data, end=max(length, MIN_BATCH_LENGTH) + LENGTH_PREFIX)
    except CorruptMessage as error:
        raise StorageError(f"No batch at position {position} of the log: {error.detail}") from None


class Scan:
    """One pass over a file from a batch border: the batches up to the first defect.

    A batch counts if it is whole, passes its checksum (with `verify`) and its offsets go on rising, without gaps if
    the log is `dense` (compaction leaves gaps). After the
    iteration `end` is the position behind the last batch that counts, and `defect` says what followed, if anything.
    """

    def __init__(
        self,
        fs: FileSystem,
        file: OpenFile,
        *,
        position: int,
        size: int,
        next_offset: int,
        verify: bool = False,
        dense: bool = False,
    ) -> None:
        self._fs = fs
        self._file = file
        self._size = size
        self._verify = verify
        self._dense = dense
        self.end = position
        self.next_offset = next_offset
        self.defect: str | None = None

    def __iter__(self) -> Iterator[tuple[int, BatchHeader]]:
        if self.end < 0:  # from a damaged index
            self.defect = f"there is no position {self.end}"
            return
        window = SCAN_BYTES if self._verify else SKIM_BYTES
        buffer = bytearray(max(min(window, self._size - self.end), 0))
        start, filled = self.end, 0  # the part of the file that the buffer holds
        while self.end < self._size:
            offset_in_buffer = self.end - start
            needed = self._bytes_needed(buffer, offset_in_buffer, filled)
            if needed > self._size - self.end:
                self.defect = f"a batch needs {needed} bytes, {self._size - self.end} are left"
                return
            if needed > filled - offset_in_buffer:
                if needed > len(buffer):
                    buffer = bytearray(needed)
                start, filled = self.end, self._fill(buffer, self.end)
                if filled < needed:
                    self.defect = f"the file ends after {start + filled} bytes"
                    return
                continue
            try:
                header = self._accept(buffer, offset_in_buffer)
            except CorruptMessage as error:
                self.defect = error.detail
                return
            position, self.end = self.end, self.end + header.size
            self.next_offset = header.next_offset
            yield position, header

    def _bytes_needed(self, buffer: bytearray, position: int, filled: int) -> int:
        """How much of the file must be in the buffer to judge the batch at `position`."""
        if filled - position < HEADER_SIZE:
            return HEADER_SIZE
        if not self._verify:
            return HEADER_SIZE
        length = int.from_bytes(buffer[position + 8 : position + LENGTH_PREFIX], "big", signed=True)
        return max(length, MIN_BATCH_LENGTH) + LENGTH_PREFIX

    def _accept(self, buffer: bytearray, position: int) -> BatchHeader:
        header = parse_header(buffer, position, end=position + self._size - self.end)
        if self._verify:
            check_crc(buffer, position, header)
        is_next = header.base_offset == self.next_offset or (header.base_offset > self.next_offset and not self._dense)
        if not is_next or header.last_offset_delta < 0 or header.record_count < 0:
            raise CorruptMessage(
                f"a batch has the offsets {header.base_offset} to {header.last_offset}, "
                f"expected from {self.next_offset} on"
            )
        return header

    def _fill(self, buffer: bytearray, position: int) -> int:
        view = memoryview(buffer)
        filled = 0
        while filled < len(buffer):
            count = self._fs.preadv(self._file.fd, view[filled:], position + filled)
            if not count:
                break
            filled += count
        return filled

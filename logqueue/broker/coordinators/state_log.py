"""Reading back what a coordinator wrote into its internal topic. Knows no records, only that they must be whole."""

from __future__ import annotations

from collections.abc import Iterator

from logqueue.broker.partitions.partition import Partition
from logqueue.errors import KafkaError
from logqueue.records.batch import BatchHeader, check_crc, iterate_batches
from logqueue.storage.errors import DataFolderError


def stored_batches(partition: Partition) -> Iterator[tuple[bytes, int, BatchHeader]]:
    """Every batch of an internal partition, in order: the bytes it lies in, its position there, its header.

    Checksums are looked at, because a clean start looks at none. Raises DataFolderError: a coordinator that began
    with half of its records would answer with commits and transactions of long ago.
    """
    log = partition.log
    try:
        for chunk in log.iterate_batches(offset=log.log_start_offset):
            for position, header in iterate_batches(chunk):
                check_crc(chunk, position, header)
                yield chunk, position, header
    except KafkaError as error:
        raise DataFolderError(
            f"{log.folder} is damaged ({error.detail}). Restore the data folder from a backup, or remove "
            f"{log.folder.parent}/.kafka_cleanshutdown and the recovery-point checkpoint beside it: the next start "
            "then checks every log and cuts this one where the damage begins"
        ) from error

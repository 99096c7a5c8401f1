"""A data folder: its lock and identity, its topics and their logs, checkpoints, clean start and stop.

Knows no requests. The owner calls `flush` of logs, `checkpoint` and `purge` on threads of its own, as it sees fit; here
are threads only to start and stop with many logs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from logqueue.clock import Clock
from logqueue.config import LogConfig
from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.storage.cleaner_offsets import CleanerOffsets
from logqueue.storage.directory_lock import DirectoryLock
from logqueue.storage.environment import Environment
from logqueue.storage.errors import (
    DataFolderError,
    DiskFull,
    StorageError,
    UnknownTopic,
)
from logqueue.storage.file_system import NO_DESCRIPTORS, PASSING, NoSpace, remedy, remove_gently, write_atomically
from logqueue.storage.journal import SyncJournal
from logqueue.storage.journal_file import Piece, put_back, read_journals, remove_journals
from logqueue.storage.log import PartitionLog
from logqueue.storage.meta import Meta, read_meta, write_meta
from logqueue.storage.names import deleted_folder, is_deleted_folder
from logqueue.storage.offset_checkpoints import OffsetCheckpoints
from logqueue.storage.ownership import check_owner, check_vacant
from logqueue.storage.parallel import run_all
from logqueue.storage.producer_ids import ProducerIds
from logqueue.storage.security_file import FILE_NAME as SECURITY
from logqueue.storage.security_file import read_security, write_security
from logqueue.storage.topic_rules import check_free, check_name, check_partitions
from logqueue.storage.topics import Topic, read_topics, write_topics

if TYPE_CHECKING:
    from logqueue.storage.recovery import Cut, LoadedLog

log = logging.getLogger("logqueue.storage")

CLEAN_SHUTDOWN = ".kafka_cleanshutdown"


class LogDirectory:
    """Everything a broker keeps, in one folder that one process has at a time.

    `topics` and `logs` are to be read by the owner, and changed only through the methods. `cuts` lists the logs that
    lost bytes in this start's recovery.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Environment,
        lock: DirectoryLock,
        meta: Meta,
        clock: Clock,
        defaults: LogConfig,
        was_clean: bool,
    ) -> None:
        self.folder = folder
        self.cluster_id = meta.cluster_id
        self.node_id = meta.node_id
        self.was_clean = was_clean
        self.topics: dict[str, Topic] = {}
        self.logs: dict[TopicPartition, PartitionLog] = {}
        self.cuts: list[Cut] = []
        self._environment = environment
        self._fs = environment.fs
        self._lock = lock
        self._clock = clock
        self._defaults = defaults
        self._producer_ids = ProducerIds(self._fs, folder)
        self.cleaned = CleanerOffsets(self._fs, folder)
        self._deleting: dict[str, Topic] = {}
        """Durably deleted, but something of theirs is still in the way: their names are not free."""
        self._offsets = OffsetCheckpoints(self._fs, folder)
        self.journal = SyncJournal(environment, folder)
        self._checkpointing = Lock()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        defaults: LogConfig | None = None,
        node_id: int = 1,
        environment: Environment | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> LogDirectory:
        """Lock a data folder, recover its logs and answer it; a folder that is missing or empty becomes a new one.

        `defaults` is the configuration of topics that set nothing. Raises DataFolderError, with a text that names the
        folder and says what to do.
        """
        environment = environment or Environment()
        fs = environment.fs
        folder = folder.absolute()
        lock = DirectoryLock.take(fs, folder)
        try:
            meta = read_meta(fs, folder)
            if meta is None:
                meta = write_meta(fs, folder, node_id=node_id, cluster=new_id(), directory=new_id())
            directory = cls(
                folder,
                environment=environment,
                lock=lock,
                meta=meta,
                clock=clock,
                defaults=defaults or LogConfig(),
                was_clean=fs.read_file(folder / CLEAN_SHUTDOWN) is not None,
            )
            directory._load()
        except BaseException as error:
            lock.release()
            if isinstance(error, StorageError):
                raise DataFolderError(error.detail) from error
            if isinstance(error, OSError):
                advice = f"; {remedy(error)}" if error.errno in PASSING else ""
                raise DataFolderError(f"The data folder {folder} cannot be read or written: {error}{advice}") from error
            raise
        return directory

    @property
    def failure(self) -> KafkaError | None:
        """Why the folder takes no more writes; None while it does."""
        return self._environment.health.failure

    # Start

    def _load(self) -> None:
        if self.was_clean:
            self._fs.unlink(self.folder / CLEAN_SHUTDOWN)
            self._fs.fsync_dir(self.folder)
        stored = read_topics(self._fs, self.folder, self._defaults)
        self.topics = {name: topic for name, topic in stored.items() if not topic.is_deleting}
        self._deleting = {name: topic for name, topic in stored.items() if topic.is_deleting}
        self._offsets.read()
        self._finish_deletions()
        starts = self._offsets.starts
        pieces = {} if self.was_clean else read_journals(self._fs, self.folder)
        present = self._fs.list_dir(self.folder)
        recovered = run_all(
            [
                partial(self._recover, topic, partition, starts.get(partition, 0), pieces.get(str(partition), ()))
                for topic in self.topics.values()
                for partition in self._partitions(topic)
                if str(partition) in present
            ]
        )
        remove_journals(self._fs, self.folder)  # for certain with the checkpoint below
        loaded = dict(recovered)
        for topic in self.topics.values():
            for partition in self._partitions(topic):
                self._add_log(topic, partition, loaded.get(partition), log_start_offset=starts.get(partition, 0))
        self.cuts = [found.cut for _, found in recovered if found is not None and found.cut is not None]
        for cut in self.cuts:
            log.warning("%s", cut)
        self._first_checkpoint()

    def _first_checkpoint(self) -> None:
        """What does not fit on the disk is written later, unless what is there promises more than was found."""
        try:
            self.checkpoint()
        except DiskFull as error:
            if not self._offsets.are_within(self.logs, but_for=self._deleting):
                raise
            self._fs.fsync_dir(self.folder)  # certain from now on: what is there, and that the journals are gone
            log.warning(
                "%s is served all the same, but hardly anything can be written to it: %s", self.folder, error.detail
            )

    def _recover(
        self,
        topic: Topic,
        partition: TopicPartition,
        log_start_offset: int,
        pieces: Sequence[Piece],
    ) -> tuple[TopicPartition, LoadedLog | None]:
        from logqueue.storage.recovery import load_log  # a new folder does without

        folder = self.folder / str(partition)
        check_owner(self._fs, folder, topic=topic.name, topic_id=topic.topic_id)
        points = self._offsets.points
        point = None if points is None else points.get(partition, 0)
        put_back(self._fs, folder, pieces, topic_id=topic.topic_id, recovery_point=point)
        loaded = load_log(
            self._environment,
            topic.config,
            folder,
            recovery_point=point,
            log_start_offset=log_start_offset,
            was_clean=self.was_clean,
            now_ms=self._clock.time_ms(),
        )
        return partition, loaded

    def _partitions(self, topic: Topic) -> list[TopicPartition]:
        return [TopicPartition(topic.name, index) for index in range(topic.partitions)]

    def _add_log(
        self, topic: Topic, partition: TopicPartition, loaded: LoadedLog | None = None, *, log_start_offset: int = 0
    ) -> None:
        self.logs[partition] = PartitionLog(
            partition,
            self.folder / str(partition),
            topic.config,
            self._environment,
            topic_id=topic.topic_id,
            loaded=loaded,
            log_start_offset=log_start_offset,
        )

    # Topics

    def create_topic(
        self,
        name: str,
        *,
        partitions: int,
        properties: Mapping[str, str] | None = None,
        topic_id: UUID | None = None,
    ) -> Topic:
        """Make a topic; it is durable when this returns. Its logs take no disk before their first append.

        Raises InvalidTopic, TopicExists, InvalidPartitions, InvalidConfig or StorageError, also for a folder in the way
        that holds the log of another topic.
        """
        self._environment.health.check()
        check_name(name)
        check_free(name, self.topics)
        self._finish_deletions()
        if name in self._deleting:
            raise DiskFull(f"Topic '{name}' is still being deleted, for which the disk is too full; free some space")
        check_partitions(partitions, more_than=0)
        properties = dict(properties or {})
        topic = Topic(
            name=name,
            topic_id=topic_id or uuid4(),
            partitions=partitions,
            properties=properties,
            config=LogConfig.from_properties(properties, base=self._defaults),
        )
        self._store_and_add(topic, self._partitions(topic))
        return topic

    def _store_and_add(self, topic: Topic, partitions: list[TopicPartition]) -> None:
        """Store a topic that is new or has grown, and open its new partitions."""
        for partition in partitions:
            check_vacant(self._fs, self.folder / str(partition))
        self._store_topics({**self.topics, topic.name: topic})
        for partition in partitions:
            self._add_log(topic, partition)

    def _store_topics(self, topics: dict[str, Topic], *, deleting: dict[str, Topic] | None = None) -> None:
        deleting = self._deleting if deleting is None else deleting
        try:
            write_topics(self._fs, self.folder, {**topics, **deleting})
        except OSError as error:
            # After a failed fsync or rename nobody knows which content a restart will find.
            raise self._environment.health.fail(f"writing the topics of {self.folder}", error) from error
        self.topics = topics
        self._deleting = deleting

    def topic(self, name: str) -> Topic:
        """A topic by name. Raises UnknownTopic."""
        topic = self.topics.get(name)
        if topic is None:
            raise UnknownTopic(f"Topic '{name}' does not exist.")
        return topic

    def create_partitions(self, name: str, total: int) -> Topic:
        """Grow a topic to `total` partitions. Raises UnknownTopic, InvalidPartitions, StorageError."""
        self._environment.health.check()
        before = self.topic(name)
        check_partitions(total, more_than=before.partitions)
        topic = before._replace(partitions=total)
        self._store_and_add(topic, self._partitions(topic)[before.partitions :])
        return topic

    def alter_topic(self, name: str, properties: Mapping[str, str]) -> Topic:
        """Replace what is set on a topic; its logs follow at once. Raises UnknownTopic, InvalidConfig, StorageError."""
        self._environment.health.check()
        before = self.topic(name)
        config = LogConfig.from_properties(properties, base=self._defaults)
        topic = before._replace(properties=dict(properties), config=config)
        self._store_topics({**self.topics, name: topic})
        for partition in self._partitions(topic):
            self.logs[partition].configure(config)
        return topic

    def configure(self, defaults: LogConfig) -> None:
        """Use another configuration for what topics do not set themselves; their logs follow at once."""
        self._defaults = defaults
        for before in list(self.topics.values()):
            topic = before._replace(config=LogConfig.from_properties(before.properties, base=defaults))
            self.topics[before.name] = topic
            for partition in self._partitions(topic):
                self.logs[partition].configure(topic.config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic: durably gone when this returns; its bytes leave the disk with `purge`.

        Later appends and flushes of its logs raise UnknownTopic. Raises UnknownTopic or StorageError.
        """
        self._environment.health.check()
        topic = self.topic(name)
        reason = UnknownTopic(f"Topic '{name}' was deleted.")
        others = {key: each for key, each in self.topics.items() if key != name}
        self._store_topics(others, deleting={**self._deleting, name: topic._replace(is_deleting=True)})
        for partition in self._partitions(topic):
            self.logs.pop(partition).abandon(reason)
        self._finish_deletions()

    def _finish_deletions(self) -> None:
        """Free the names of deleted topics; where there is no room for it now, a later call or start does. The topics
        are durably gone all the same. Raises StorageError.
        """
        if not self._deleting:
            return
        try:
            self._take_out_deleted()
        except OSError as error:
            if not isinstance(error, NoSpace) and error.errno not in NO_DESCRIPTORS:
                raise self._environment.health.fail(f"deleting {', '.join(self._deleting)}", error) from error
            log.warning("the names of deleted topics are not free yet: %s", error)

    def _take_out_deleted(self) -> None:
        """Take everything that goes by the names of deleted topics out of the way, and free them last.

        While they are in the list of topics, a start does all of this once more, so a crash may come between any two
        steps. The list itself is not waited for: a start that finds the old one finds nothing left to do, and a topic
        that takes a name stores the list again before its folders appear. Raises OSError.
        """
        for topic in self._deleting.values():
            for partition in self._partitions(topic):
                try:
                    self._fs.rename(self.folder / str(partition), self.folder / deleted_folder(partition, uuid4()))
                except FileNotFoundError:
                    continue  # never written to, or moved before
        self.cleaned.forget(self._deleting)
        with self._offsets.lock:  # a checkpoint under way has seen the logs, or does not find them any more
            self._offsets.forget(self._deleting)
        self._fs.fsync_dir(self.folder)
        write_topics(self._fs, self.folder, self.topics, sync_folder=False)
        self._deleting = {}

    def take_producer_id(self) -> int:
        """A producer id that was never given before. Raises StorageError."""
        self._environment.health.check()
        try:
            return self._producer_ids.take()
        except OSError as error:
            raise self._environment.health.fail("reserving producer ids", error) from error

    @property
    def has_security(self) -> bool:
        """Whether anything is known about users, ACLs and quotas."""
        return (self.folder / SECURITY).exists()

    def read_security(self) -> bytes | None:
        """What is known about users, ACLs and quotas; None if nothing is. Raises DataFolderError."""
        try:
            return read_security(self._fs, self.folder)
        except OSError as error:
            raise DataFolderError(f"The users and ACLs of {self.folder} cannot be read: {error}") from error

    def write_security(self, content: bytes) -> None:
        """Replace what is known about users, ACLs and quotas, durably. Raises StorageError."""
        self._environment.health.check()
        try:
            write_security(self._fs, self.folder, content)
        except OSError as error:
            raise self._environment.health.fail("writing users, ACLs and quotas", error) from error

    # Upkeep and stop

    def checkpoint(self) -> None:
        """Write down how far each log is durable and where it starts, if that changed. Any thread.

        Raises StorageError.
        """
        with self._checkpointing:  # points of two at once could go backwards
            found: list[tuple[TopicPartition, PartitionLog, int]] = []
            for partition, each in list(self.logs.items()):
                try:
                    found.append((partition, each, each.advance_recovery_point()))
                except UnknownTopic:
                    continue  # deleted meanwhile
            with self._offsets.lock:
                self._write_offsets([entry for entry in found if self.logs.get(entry[0]) is entry[1]])

    def written_recovery_point(self, partition: TopicPartition) -> int:
        """Where a recovery would start checking a log if the power went now. Any thread."""
        return (self._offsets.points or {}).get(partition, 0)

    def _write_offsets(self, found: list[tuple[TopicPartition, PartitionLog, int]]) -> None:
        points = {partition: point for partition, _, point in found if point > 0}
        starts = {partition: start for partition, each, _ in found if (start := each.log_start_offset) > 0}
        try:
            self._offsets.write(points, starts)
        except OSError as error:
            raise self._environment.health.fail(f"writing the checkpoints of {self.folder}", error) from error

    def purge(self, *, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Remove deleted topics and segments from the disk, gently; answers how many. Any thread, one at a time.

        It ends between two files when `goes_on` says no. Raises StorageError, once all is done that can be; what could
        not be removed is tried again at the next call.
        """
        count = 0
        failure: OSError | StorageError | None = None
        try:
            for remove in self._removals(goes_on):
                try:
                    count += remove()
                except UnknownTopic:
                    continue  # deleted meanwhile
                except (OSError, StorageError) as error:  # holds up no other log
                    failure = failure or error
            if failure is not None:
                raise failure
        except OSError as error:
            raise StorageError(f"Removing deleted files in {self.folder} failed: {error}") from error
        return count

    def _removals(self, goes_on: Callable[[], bool]) -> Iterator[Callable[[], int]]:
        now_ms = self._clock.time_ms()
        for each in list(self.logs.values()):
            yield partial(each.purge, now_ms, goes_on=goes_on)
        for name, size in self._fs.list_dir(self.folder).items():
            if size < 0 and is_deleted_folder(name):
                yield partial(self._remove_folder, self.folder / name, goes_on)

    def _remove_folder(self, folder: Path, goes_on: Callable[[], bool]) -> bool:
        for file in self._fs.list_dir(folder):
            if not goes_on():
                return False
            remove_gently(self._fs, folder / file)
        self._fs.rmdir(folder)
        return True

    def expire_producers(self, *, after_ms: int) -> int:
        """Forget producers that were idle for longer than `after_ms`; answers how many."""
        now_ms = self._clock.time_ms()
        return sum(each.producer_state.expire(now_ms=now_ms, after_ms=after_ms) for each in self.logs.values())

    def close(self) -> None:
        """Make everything durable, leave the marker of a clean shutdown and release the folder.

        Raises StorageError if the disk fails now or has failed before; the folder is released all the same.
        """
        try:
            run_all([each.close for each in self.logs.values() if not each.is_closed])
            self.checkpoint()
            try:
                self.journal.remove()
                write_atomically(self._fs, self.folder / CLEAN_SHUTDOWN, b'{"version": 0, "brokerEpoch": -1}')
            except OSError as error:
                raise self._environment.health.fail("marking the clean shutdown", error) from error
        finally:
            self.release()

    def release(self) -> None:
        """Release the folder as it is, as the end of the process would: the next start recovers it."""
        self.journal.close()
        for each in self.logs.values():
            each.release()
        self._lock.release()

"""The embedded broker: what there is, and in which order it starts and stops. Knows no wire format."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from logqueue.broker import descriptors
from logqueue.broker.deadlines import Deadlines
from logqueue.broker.dispatch import Dispatcher
from logqueue.broker.network import limits
from logqueue.broker.network.door import Door
from logqueue.broker.network.network import Network
from logqueue.broker.network.session import Session, Slot
from logqueue.broker.partitions.group_commit import GroupCommit
from logqueue.broker.partitions.topics import CONSUMER_OFFSETS, TRANSACTION_STATE, Topics
from logqueue.broker.settings.dynamic import BROKER, GROUP, DynamicConfigs, effective, group_config
from logqueue.broker.settings.features import Features
from logqueue.broker.upkeep.upkeep import Upkeep
from logqueue.clock import Clock, SystemClock
from logqueue.config import BrokerConfig, InvalidConfig, LogConfig
from logqueue.config.listeners import listeners_of
from logqueue.config.process import METRICS_OFF
from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.protocol.frames import write_response
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DataFolderError
from logqueue.storage.log_directory import LogDirectory

if TYPE_CHECKING:
    from logqueue.broker.coordinators.groups import Groups
    from logqueue.broker.coordinators.transactions import Transactions
    from logqueue.broker.coordinators.verification import Verification
    from logqueue.broker.fetching.registry import FetchSessions
    from logqueue.broker.metrics.meters import RequestMeters
    from logqueue.broker.metrics.server import MetricsServer
    from logqueue.broker.network.certificates import Certificates
    from logqueue.broker.partitions.topics import Topic
    from logqueue.broker.security.control import Control
    from logqueue.broker.security.registry import Security
    from logqueue.broker.security.sasl_gate import SaslGates
    from logqueue.config.group import GroupConfig

log = logging.getLogger("logqueue.broker")

_DRAIN_POLL_SECONDS = 0.005
CONNECTION_RATE = "connection_creation_rate"  # the quota of addresses (KIP-612)


class Broker:
    """One node that speaks the Kafka protocol over the logs of one data folder.

    Runs on the loop that calls `start`; everything but `start` and `stop` belongs to the handlers.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        log_defaults: LogConfig | None = None,
        static: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        environment: Environment | None = None,
    ) -> None:
        """`static` are the texts that the configurations were made of; without them they are what is not the default.

        `environment` is the storage's disk, for those who want to watch it or make it fail.
        """
        self.config = config
        self.log_defaults = log_defaults or LogConfig(max_message_bytes=config.message_max_bytes)
        self.clock = clock or SystemClock()
        self.node_id = config.node_id
        self.port = 0  # of the first listener
        self.doors: list[Door] = []
        self.parked_fetches = 0
        self.throttled = 0  # answers that quotas held back, and by how long
        self.throttled_ms = 0.0
        self.request_meters: RequestMeters | None = None  # where somebody asks for metrics
        self.metrics_port: int | None = None
        self.is_stopping = False
        self.loop: asyncio.AbstractEventLoop
        self.deadlines: Deadlines
        self.commit: GroupCommit
        self.topics: Topics
        self.features: Features
        self.dynamic: DynamicConfigs
        self.on_reconfigured: list[Callable[[], None]] = []  # called after settings changed while the broker runs
        self._static = static
        self._group_configs: dict[str, GroupConfig] = {}
        shares = descriptors.share(descriptors.allowed())
        self._most_connections = shares.connections
        self._environment = environment or Environment(max_open_files=shares.files)
        self._directory: LogDirectory | None = None
        self._network: Network | None = None
        self._groups: Groups | None = None
        self._transactions: Transactions | None = None
        self._verification: Verification | None = None
        self._fetch_sessions: FetchSessions | None = None
        self._upkeep: Upkeep | None = None
        self._security: Security | None = None
        self._control: Control | None = None
        self._metrics: MetricsServer | None = None
        self.certificates: Certificates | None = None  # where a listener has TLS
        self._dispatcher: Dispatcher
        self._is_open = False  # whether the start has come through
        self._resources = ExitStack()  # what has been opened, to be closed in reverse

    @property
    def cluster_id(self) -> str:
        assert self._directory is not None
        return self._directory.cluster_id

    @property
    def storage_failure(self) -> KafkaError | None:
        """Why nothing is written any more; None while the disk is fine."""
        assert self._directory is not None
        return self._directory.failure

    def take_producer_id(self) -> int:
        """A producer id that was never given before. Raises StorageError."""
        assert self._directory is not None
        return self._directory.take_producer_id()

    @property
    def static(self) -> Mapping[str, str]:
        """The settings that the broker was started with, as text."""
        if self._static is None:
            from logqueue.config.catalogue import texts_of

            self._static = texts_of(self.config, self.log_defaults)
        return self._static

    def reconfigure(self) -> None:
        """Let settings that were changed take effect. Raises InvalidConfig; then nothing is different."""
        static = self.static  # before the configurations change that it may be made of
        config, log_defaults = effective(static, self.dynamic, self.node_id)
        self.config = config.with_(data_dir=self.config.data_dir)
        self.log_defaults = log_defaults
        self._group_configs.clear()
        if self._network is not None:
            self._network.configure(self.config)
            self.topics.configure(self.config, log_defaults)
        for follow in self.on_reconfigured:
            follow()

    def group_config(self, group_id: str) -> GroupConfig:
        """Settings of a group: its own (resource type GROUP) over the broker's."""
        found = self._group_configs.get(group_id)
        if found is None:
            found = group_config(self.dynamic, group_id, self.config)
            if self.dynamic.of(GROUP, group_id):  # groups without settings of their own are not remembered
                self._group_configs[group_id] = found
        return found

    def forget_group_config(self, group_id: str) -> None:
        """The settings of a group have changed."""
        self._group_configs.pop(group_id, None)
        for follow in self.on_reconfigured:
            follow()

    def _load_coordinators(self) -> None:
        """Read what the coordinators wrote before, and put markers that a crash has left to write on their way.

        Transactions come first: a log takes nothing before the markers that its readers may have seen already.
        """
        if TRANSACTION_STATE in self.topics.by_name:
            self._load_transactions()
        if CONSUMER_OFFSETS in self.topics.by_name and self._groups is None:
            self._load_groups()
        self.commit.start_round()

    @property
    def was_clean(self) -> bool:
        """Whether the run before has ended in order."""
        assert self._directory is not None
        return self._directory.was_clean

    @property
    def groups(self) -> Groups:
        """The coordinator of consumer groups; built at its first use, or at the start if there are offsets."""
        return self._groups or self._load_groups()

    def _load_groups(self) -> Groups:
        from logqueue.broker.coordinators.groups import Groups

        self._groups = Groups(self)
        return self._groups

    @property
    def transactions(self) -> Transactions:
        """The coordinator of transactions; built at its first use, or at the start if there have been any."""
        return self._transactions or self._load_transactions()

    def _load_transactions(self) -> Transactions:
        from logqueue.broker.coordinators.transactions import Transactions

        self._transactions = Transactions(self)
        return self._transactions

    @property
    def verification(self) -> Verification:
        """What stands between the requests of transactional producers and the logs."""
        if self._verification is None:
            from logqueue.broker.coordinators.verification import Verification

            self._verification = Verification(self, self.transactions)
        return self._verification

    @property
    def fetch_sessions(self) -> FetchSessions:
        """The sessions of fetches (KIP-227); none are opened where there are ACLs, which look at whole requests."""
        if self._fetch_sessions is None:
            from logqueue.broker.fetching.registry import FetchSessions

            has_acls = self._security is not None and self._security.authorizer is not None
            slots = 0 if has_acls else self.config.max_incremental_fetch_session_cache_slots
            self._fetch_sessions = FetchSessions(self, slots=slots)
        return self._fetch_sessions

    def update_features(self, levels: Mapping[str, int]) -> None:
        """Finalize feature levels, durably, and act by them. Raises FeatureUpdateFailed or StorageError."""
        self.features.update(levels)
        if self._transactions is not None:
            self._transactions.coordinator.transaction_version = self.features.transaction_version

    @property
    def serves_consumer_groups(self) -> bool:
        """Whether members of the consumer protocol are let in (KIP-848)."""
        return self.features.level("group.version") >= 1 and "consumer" in (
            self.config.group_coordinator_rebalance_protocols
        )

    @property
    def security(self) -> Security:
        """Users, ACLs and quotas; read at the first use, or at the start where anything depends on them."""
        return self._security or self._load_security()

    def _load_security(self) -> Security:
        from logqueue.broker.security.registry import Security, new_state, read_state

        assert self._directory is not None
        state = read_state(self._directory) or new_state()
        self._security = Security(self._directory, self.config, state, on_change=self._follow_security)
        self._follow_security()
        return self._security

    def _follow_security(self) -> None:
        """Have requests pass the control, if there is anything to control."""
        from logqueue.broker.security.control import Control

        assert self._security is not None and self._network is not None
        quotas = self._security.quotas
        if self._control is None and (self._security.authorizer is not None or quotas.keys):
            self._control = self._dispatcher.control = Control(self, self._security)
        elif self._control is not None:
            self._control.follow_quotas()
        self._network.admission.limit_of = quotas.connection_limit if CONNECTION_RATE in quotas.keys else None

    def _open_doors(self) -> None:
        """Find out about each listener what it needs, before any of them takes a connection."""
        config, doors = self.config, self.doors
        gates: SaslGates | None = None
        if any(door.endpoint.protocol.has_tls for door in doors):
            self._load_certificates()
        for door in doors:
            if door.endpoint.protocol.has_sasl:
                from logqueue.broker.security.sasl_gate import SaslGates

                gates = gates or SaslGates(self, self._dispatcher.serve)
                door.gatekeeper = gates.open
        if gates is not None:
            self._resources.callback(gates.close)
        assert self._directory is not None
        if gates is not None or config.authorizer_class_name or self._directory.has_security:
            self._load_security()

    def _load_certificates(self) -> None:
        from logqueue.broker.network.certificates import Certificates

        self.certificates = certificates = Certificates(self.doors, self.config)
        self.on_reconfigured.append(lambda: certificates.follow(self.config))
        certificates.watch(
            lambda seconds, each: self.deadlines.push(self.loop.time() + seconds, each), lambda: self.config
        )

    def _load_metrics(self) -> None:
        from logqueue.broker.metrics.meters import RequestMeters
        from logqueue.broker.metrics.server import MetricsServer

        self.request_meters = RequestMeters()
        self._metrics = MetricsServer(self)

    @property
    def connection_count(self) -> int:
        """Connections of clients."""
        return 0 if self._network is None else self._network.connection_count

    @property
    def uncleanable(self) -> Collection[TopicPartition]:
        """Partitions that are not compacted, since they are damaged."""
        cleaner = None if self._upkeep is None else self._upkeep.cleaner
        return () if cleaner is None else cleaner.uncleanable

    @property
    def loaded_groups(self) -> Groups | None:
        """The coordinator of groups, if any group was ever asked for."""
        return self._groups

    def mute(self, session: Session, seconds: float) -> None:
        """Read nothing of a connection for a while (KIP-219)."""
        self.throttled += 1
        self.throttled_ms += seconds * 1000
        if self._network is not None:
            self._network.mute(session, seconds)

    def hang_up(self, session: Session, reason: str) -> None:
        """Close a connection after the answers that are ready."""
        if self._network is not None:
            self._network.end(session, reason)

    def delete_topic(self, topic: Topic) -> None:
        """Delete a topic, and with it what groups have committed for it."""
        self.topics.delete(topic)
        if self._groups is not None:
            self._groups.on_topic_deleted(topic.name)

    @property
    def upkeep(self) -> Upkeep | None:
        """Checkpoints, retention and compaction; None until the broker has started."""
        return self._upkeep

    async def start(self) -> None:
        """Open the data folder, recover, and listen. Raises DataFolderError or CannotListen; then nothing is held."""
        self.loop = asyncio.get_running_loop()
        try:
            self._open()
        except BaseException:
            self._resources.close()
            raise
        for door in self.doors:
            if exposure := door.exposure(self.config):
                log.warning("%s", exposure)
        if self._metrics is not None:
            try:
                self.metrics_port = await self._metrics.start(self.config.metrics_host, self.config.metrics_port)
            except BaseException:
                await self.stop()
                raise

    def _read_dynamic(self) -> None:
        try:
            self.dynamic = DynamicConfigs(self._environment, self.config.data_dir)
        except OSError as error:
            raise DataFolderError(f"The settings in {self.config.data_dir} cannot be read: {error}") from error
        if self.dynamic.names(BROKER):
            try:
                self.reconfigure()
            except InvalidConfig as error:
                log.error("settings stored in %s are passed over: %s", self.config.data_dir, error.detail)

    def _close_directory(self) -> None:
        """After a crash the folder counts as unclean until a start has come through all that is left to do."""
        assert self._directory is not None
        if self._is_open or self._directory.was_clean:
            self._directory.close()
        else:
            self._directory.release()

    def _open(self) -> None:
        self._read_dynamic()
        config, resources = self.config, self._resources
        self._directory = LogDirectory.open(
            config.data_dir,
            clock=self.clock,
            defaults=self.log_defaults,
            node_id=config.node_id,
            environment=self._environment,
        )
        resources.callback(self._close_directory)
        self.features = Features(self._environment.fs, self._directory.folder)
        self.deadlines = Deadlines(self.loop, after_wake=self.end_turn)
        resources.callback(self.deadlines.close)
        self.commit = GroupCommit(
            self.loop,
            self.deadlines,
            self._directory.journal,
            after_round=self.end_round,
            is_steady=self._environment.is_steady,
        )
        resources.callback(self.commit.close)
        self.topics = Topics(self._directory, config, self.log_defaults)
        self.doors = [Door(endpoint=endpoint) for endpoint in listeners_of(config)]
        if config.metrics_port != METRICS_OFF:
            self._load_metrics()
        self._dispatcher = Dispatcher(self)
        self._network = Network(
            self.loop,
            config,
            serve=self._dispatcher.serve,
            before_sending=self._dispatcher.serve_held,
            after_turn=self.commit.start_round,
            most_connections=self._most_connections,
        )
        resources.callback(self._network.close)
        self._load_coordinators()
        self._open_doors()
        self._network.listen(self.doors)
        self.port = self.doors[0].port
        self._upkeep = Upkeep(self, self._directory, self._environment)
        self._is_open = True

    async def stop(self) -> None:
        """Answer what is parked, flush, write checkpoints and the clean-shutdown marker. Bounded, and idempotent."""
        if self._network is None or self.is_stopping:
            return
        self.is_stopping = True
        self._network.stop_listening()
        self._network.stop_reading()
        for topic in self.topics.by_name.values():
            for partition in topic.partitions:
                partition.wake_all()
        self.end_turn()
        deadline = self.loop.time() + limits.STOP_DRAIN_SECONDS
        # A bounded poll at the very end: an event would cost every turn of the loop a check.
        while self.loop.time() < deadline and not (self.commit.is_idle and not self._network.has_unsent):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        if self._upkeep is not None:
            await self._upkeep.stop()
        if self._metrics is not None:
            await self._metrics.stop()
        self._network.close()
        self._network = None
        self._resources.close()
        log.info("stopped")

    def answer(self, slot: Slot, response: Any) -> None:
        """Answer a request now; it leaves at the end of the turn, after the answers before it."""
        if slot.amend is not None:
            response = slot.amend(response)
        key, version, correlation_id, _ = slot.header
        slot.fill(write_response(key, version, correlation_id, response))
        if self.request_meters is not None and (late := getattr(slot, "late", None)) is not None:
            late.done()

    def end_turn(self) -> None:
        """Send what is ready and hand waiting requests to the disk: the end of every callback of the loop."""
        if self._network is not None:
            self._network.flush()
        self.commit.start_round()

    def end_round(self) -> None:
        """Send what a round of fsyncs has made ready, and serve who has sent more: the next round takes them along."""
        if self._network is None:
            return
        self._network.flush()
        self._network.serve_ready()

    def advertised(self, slot: Slot) -> tuple[str, int]:
        """Address to tell a client: that of the listener it came by."""
        assert slot.session.door is not None
        return slot.session.door.address_for(slot.session)

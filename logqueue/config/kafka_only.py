"""Broker settings of Apache Kafka 4.2 that mean nothing here: known, shown and stored for Kafka's tools and files.

Imported only when such a setting is asked for. A setting that gets an effect moves to the other tables of this room.
"""

from __future__ import annotations

from logqueue.config.properties import ConfigType, Property, Scope

# name | type | default (- is none, "" empty) | scope: r read-only, b per broker, c cluster-wide
_OTHER = """
add.partitions.to.txn.retry.backoff.max.ms|INT|100|r
add.partitions.to.txn.retry.backoff.ms|INT|20|r
group.coordinator.append.linger.ms|INT|-1|r
log.flush.start.offset.checkpoint.interval.ms|INT|60000|r
offsets.commit.timeout.ms|INT|5000|r
offsets.load.buffer.size|INT|5242880|r
offsets.topic.compression.codec|INT|0|r
offsets.topic.replication.factor|SHORT|3|r
transaction.state.log.load.buffer.size|INT|5242880|r
transaction.state.log.min.isr|INT|2|r
transaction.state.log.replication.factor|SHORT|3|r
transaction.two.phase.commit.enable|BOOLEAN|false|r
"""

_ENGINE = """
background.threads|INT|10|c
delete.records.purgatory.purge.interval.requests|INT|1|r
fetch.purgatory.purge.interval.requests|INT|1000|r
group.coordinator.threads|INT|4|r
max.request.partition.size.limit|INT|2000|r
num.io.threads|INT|8|c
num.network.threads|INT|3|c
num.recovery.threads.per.data.dir|INT|2|c
producer.purgatory.purge.interval.requests|INT|1000|r
request.timeout.ms|INT|30000|r
socket.connection.setup.timeout.max.ms|LONG|30000|r
socket.connection.setup.timeout.ms|LONG|10000|r
socket.listen.backlog.size|INT|50|r
socket.receive.buffer.bytes|INT|102400|r
"""

_QUORUM = """
broker.heartbeat.interval.ms|INT|2000|r
broker.rack|STRING|-|r
broker.session.timeout.ms|INT|9000|r
controlled.shutdown.enable|BOOLEAN|true|r
controller.listener.names|LIST|""|r
controller.quorum.append.linger.ms|INT|25|r
controller.quorum.auto.join.enable|BOOLEAN|false|r
controller.quorum.bootstrap.servers|LIST|""|r
controller.quorum.election.backoff.max.ms|INT|1000|r
controller.quorum.election.timeout.ms|INT|1000|r
controller.quorum.fetch.timeout.ms|INT|2000|r
controller.quorum.request.timeout.ms|INT|2000|r
controller.quorum.retry.backoff.ms|INT|20|r
controller.quorum.voters|LIST|""|r
controller.socket.timeout.ms|INT|30000|r
early.start.listeners|LIST|-|r
initial.broker.registration.timeout.ms|INT|60000|r
inter.broker.listener.name|STRING|-|r
log.dir.failure.timeout.ms|LONG|30000|r
metadata.log.dir|STRING|-|r
metadata.log.max.record.bytes.between.snapshots|LONG|20971520|r
metadata.log.max.snapshot.interval.ms|LONG|3600000|r
metadata.log.segment.bytes|INT|1073741824|r
metadata.log.segment.ms|LONG|604800000|r
metadata.max.idle.interval.ms|INT|500|r
metadata.max.retention.bytes|LONG|104857600|r
metadata.max.retention.ms|LONG|604800000|r
process.roles|LIST|""|r
"""

_REPLICATION = """
alter.log.dirs.replication.quota.window.num|INT|11|r
alter.log.dirs.replication.quota.window.size.seconds|INT|1|r
auto.leader.rebalance.enable|BOOLEAN|true|r
leader.imbalance.check.interval.seconds|LONG|300|r
num.replica.alter.log.dirs.threads|INT|-|r
num.replica.fetchers|INT|1|c
replica.fetch.backoff.ms|INT|1000|r
replica.fetch.max.bytes|INT|1048576|r
replica.fetch.min.bytes|INT|1|r
replica.fetch.response.max.bytes|INT|10485760|r
replica.fetch.wait.max.ms|INT|500|r
replica.high.watermark.checkpoint.interval.ms|LONG|5000|r
replica.lag.time.max.ms|LONG|30000|r
replica.selector.class|STRING|-|r
replica.socket.receive.buffer.bytes|INT|65536|r
replica.socket.timeout.ms|INT|30000|r
replication.quota.window.num|INT|11|r
replication.quota.window.size.seconds|INT|1|r
"""

_SHARE = """
group.share.assignors|LIST|simple|r
group.share.delivery.count.limit|INT|5|r
group.share.heartbeat.interval.ms|INT|5000|r
group.share.max.heartbeat.interval.ms|INT|15000|r
group.share.max.record.lock.duration.ms|INT|60000|r
group.share.max.session.timeout.ms|INT|60000|r
group.share.max.share.sessions|INT|2000|r
group.share.max.size|INT|200|r
group.share.min.heartbeat.interval.ms|INT|5000|r
group.share.min.record.lock.duration.ms|INT|15000|r
group.share.min.session.timeout.ms|INT|45000|r
group.share.partition.max.record.locks|INT|2000|r
group.share.record.lock.duration.ms|INT|30000|r
group.share.session.timeout.ms|INT|45000|r
group.streams.heartbeat.interval.ms|INT|5000|r
group.streams.initial.rebalance.delay.ms|INT|3000|r
group.streams.max.heartbeat.interval.ms|INT|15000|r
group.streams.max.session.timeout.ms|INT|60000|r
group.streams.max.size|INT|2147483647|r
group.streams.max.standby.replicas|INT|2|r
group.streams.min.heartbeat.interval.ms|INT|5000|r
group.streams.min.session.timeout.ms|INT|45000|r
group.streams.num.standby.replicas|INT|0|r
group.streams.session.timeout.ms|INT|45000|r
share.coordinator.append.linger.ms|INT|-1|r
share.coordinator.load.buffer.size|INT|5242880|r
share.coordinator.snapshot.update.records.per.snapshot|INT|500|r
share.coordinator.state.topic.compression.codec|INT|0|r
share.coordinator.state.topic.min.isr|SHORT|2|r
share.coordinator.state.topic.num.partitions|INT|50|r
share.coordinator.state.topic.replication.factor|SHORT|3|r
share.coordinator.state.topic.segment.bytes|INT|104857600|r
share.coordinator.threads|INT|1|r
share.coordinator.write.timeout.ms|INT|5000|r
share.fetch.purgatory.purge.interval.requests|INT|1000|r
"""

_TIERED = """
remote.fetch.max.wait.ms|INT|500|c
remote.list.offsets.request.timeout.ms|LONG|30000|c
remote.log.index.file.cache.total.size.bytes|LONG|1073741824|c
remote.log.manager.copier.thread.pool.size|INT|10|c
remote.log.manager.copy.max.bytes.per.second|LONG|9223372036854775807|c
remote.log.manager.copy.quota.window.num|INT|11|r
remote.log.manager.copy.quota.window.size.seconds|INT|1|r
remote.log.manager.expiration.thread.pool.size|INT|10|c
remote.log.manager.fetch.max.bytes.per.second|LONG|9223372036854775807|c
remote.log.manager.fetch.quota.window.num|INT|11|r
remote.log.manager.fetch.quota.window.size.seconds|INT|1|r
remote.log.manager.follower.thread.pool.size|INT|2|c
remote.log.manager.task.interval.ms|LONG|30000|r
remote.log.manager.thread.pool.size|INT|2|r
remote.log.metadata.custom.metadata.max.bytes|INT|128|r
remote.log.metadata.manager.class.name|STRING|org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager|r
remote.log.metadata.manager.class.path|STRING|-|r
remote.log.metadata.manager.impl.prefix|STRING|rlmm.config.|r
remote.log.metadata.manager.listener.name|STRING|-|r
remote.log.reader.max.pending.tasks|INT|100|r
remote.log.reader.threads|INT|10|c
remote.log.storage.manager.class.name|STRING|-|r
remote.log.storage.manager.class.path|STRING|-|r
remote.log.storage.manager.impl.prefix|STRING|rsm.config.|r
remote.log.storage.system.enable|BOOLEAN|false|r
"""

_METRICS = """
kafka.metrics.polling.interval.secs|INT|10|r
metrics.num.samples|INT|2|r
metrics.recording.level|STRING|INFO|r
metrics.sample.window.ms|LONG|30000|r
telemetry.max.bytes|INT|1048576|r
"""

_SECURITY = """
delegation.token.expiry.check.interval.ms|LONG|3600000|r
delegation.token.expiry.time.ms|LONG|86400000|r
delegation.token.max.lifetime.ms|LONG|604800000|r
delegation.token.secret.key|PASSWORD|-|r
sasl.jaas.config|PASSWORD|-|b
sasl.kerberos.kinit.cmd|STRING|/usr/bin/kinit|b
sasl.kerberos.min.time.before.relogin|LONG|60000|b
sasl.kerberos.principal.to.local.rules|LIST|DEFAULT|b
sasl.kerberos.service.name|STRING|-|b
sasl.kerberos.ticket.renew.jitter|DOUBLE|0.05|b
sasl.kerberos.ticket.renew.window.factor|DOUBLE|0.8|b
sasl.login.connect.timeout.ms|INT|-|r
sasl.login.read.timeout.ms|INT|-|r
sasl.login.refresh.buffer.seconds|SHORT|300|b
sasl.login.refresh.min.period.seconds|SHORT|60|b
sasl.login.refresh.window.factor|DOUBLE|0.8|b
sasl.login.refresh.window.jitter|DOUBLE|0.05|b
sasl.login.retry.backoff.max.ms|LONG|10000|r
sasl.login.retry.backoff.ms|LONG|100|r
sasl.mechanism.controller.protocol|STRING|GSSAPI|r
sasl.mechanism.inter.broker.protocol|STRING|GSSAPI|b
sasl.oauthbearer.assertion.algorithm|STRING|RS256|r
sasl.oauthbearer.assertion.claim.aud|STRING|-|r
sasl.oauthbearer.assertion.claim.exp.seconds|INT|300|r
sasl.oauthbearer.assertion.claim.iss|STRING|-|r
sasl.oauthbearer.assertion.claim.jti.include|BOOLEAN|false|r
sasl.oauthbearer.assertion.claim.nbf.seconds|INT|60|r
sasl.oauthbearer.assertion.claim.sub|STRING|-|r
sasl.oauthbearer.assertion.file|STRING|-|r
sasl.oauthbearer.assertion.private.key.file|STRING|-|r
sasl.oauthbearer.assertion.private.key.passphrase|PASSWORD|-|r
sasl.oauthbearer.assertion.template.file|STRING|-|r
sasl.oauthbearer.client.credentials.client.id|STRING|-|r
sasl.oauthbearer.client.credentials.client.secret|PASSWORD|-|r
sasl.oauthbearer.clock.skew.seconds|INT|30|r
sasl.oauthbearer.expected.audience|LIST|""|r
sasl.oauthbearer.expected.issuer|STRING|-|r
sasl.oauthbearer.jwks.endpoint.refresh.ms|LONG|3600000|r
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms|LONG|10000|r
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms|LONG|100|r
sasl.oauthbearer.jwks.endpoint.url|STRING|-|r
sasl.oauthbearer.scope|STRING|-|r
sasl.oauthbearer.scope.claim.name|STRING|scope|r
sasl.oauthbearer.sub.claim.name|STRING|sub|r
sasl.oauthbearer.token.endpoint.url|STRING|-|r
security.inter.broker.protocol|STRING|PLAINTEXT|r
ssl.allow.dn.changes|BOOLEAN|false|r
ssl.allow.san.changes|BOOLEAN|false|r
ssl.cipher.suites|LIST|""|b
ssl.endpoint.identification.algorithm|STRING|https|b
ssl.keymanager.algorithm|STRING|SunX509|b
ssl.keystore.password|PASSWORD|-|b
ssl.protocol|STRING|TLSv1.3|b
ssl.secure.random.implementation|STRING|-|b
ssl.trustmanager.algorithm|STRING|PKIX|b
ssl.truststore.password|PASSWORD|-|b
"""

_PLUGIN = """
alter.config.policy.class.name|CLASS|-|r
client.quota.callback.class|CLASS|-|r
config.providers|LIST|""|c
create.topic.policy.class.name|CLASS|-|r
kafka.metrics.reporters|LIST|""|r
metric.reporters|LIST|org.apache.kafka.common.metrics.JmxReporter|c
principal.builder.class|CLASS|org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder|b
sasl.client.callback.handler.class|CLASS|-|r
sasl.login.callback.handler.class|CLASS|-|r
sasl.login.class|CLASS|-|r
sasl.oauthbearer.jwt.retriever.class|CLASS|org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever|r
sasl.oauthbearer.jwt.validator.class|CLASS|org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator|r
sasl.server.callback.handler.class|CLASS|-|r
security.providers|STRING|-|r
ssl.engine.factory.class|CLASS|-|b
ssl.provider|STRING|-|b
"""

_THROTTLES = (
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
)
"""Set while replicas move, by Kafka's reassignment tool; shown only where they are set."""

_REASONS = (
    (_OTHER, "it is done in another way"),
    (_ENGINE, "one event loop serves everything"),
    (_QUORUM, "one node needs no quorum"),
    (_REPLICATION, "one node replicates nothing"),
    (_SHARE, "share and streams groups are not served"),
    (_TIERED, "there is no tiered storage"),
    (_METRICS, "metrics are those of the /metrics page"),
    (_SECURITY, "this part of security is not offered"),
    (_PLUGIN, "no Java class can be loaded"),
)

_SCOPES = {"r": Scope.READ_ONLY, "b": Scope.PER_BROKER, "c": Scope.CLUSTER}

MUST_NOT_BE_IGNORED = frozenset(
    {
        "alter.config.policy.class.name",
        "client.quota.callback.class",
        "create.topic.policy.class.name",
        "principal.builder.class",
        "sasl.server.callback.handler.class",
        "ssl.cipher.suites",
        "ssl.engine.factory.class",
    }
)
"""Settings that protect something: whoever sets one has to know that it cannot be had here."""


def kafka_only() -> dict[str, tuple[Property, str | None]]:
    """Each such setting with the text of its default."""
    found = {
        name: (_property(name, kind, scope, reason), {"-": None, '""': ""}.get(default, default))
        for table, reason in _REASONS
        for name, kind, default, scope in (line.split("|") for line in table.split())
    }
    for name in _THROTTLES:
        doc = "Kept for Kafka's tools, without effect: one node replicates nothing."
        prop = Property(
            name=name, type=ConfigType.LONG, doc=doc, minimum=0, scope=Scope.CLUSTER, is_internal=True, has_effect=False
        )
        found[name] = prop, None
    return found


def _property(name: str, kind: str, scope: str, reason: str) -> Property:
    doc = f"Kept for Kafka's tools, without effect: {reason}."
    return Property(name=name, type=ConfigType[kind], doc=doc, scope=_SCOPES[scope], has_effect=False)

"""Settings that change while the broker runs: they take effect at once, are stored, and are read again at the start."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from logqueue.errors import ErrorCode
from logqueue.storage.settings import FILE_NAME
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, create_topic, produced
from tests.operations.wire_configs import (
    APPEND,
    BROKER,
    DELETE,
    GROUP,
    LOGGER,
    METRICS,
    SET,
    TOPIC,
    alter,
    describe,
    replace,
    value_of,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "data", fsync=False) as running:
        yield running


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


def test_a_cluster_default_holds_for_every_topic_that_sets_nothing_itself(wire: Wire) -> None:
    create_topic(wire, "plain")
    create(wire, "own", max_message_bytes="5000")
    large = batch(b"x" * 2000)
    assert alter(wire, BROKER, "", ("message.max.bytes", SET, "1000")) == 0
    assert produced(wire, "plain", large).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert produced(wire, "own", large).error_code == 0
    assert value_of(wire, TOPIC, "plain", "max.message.bytes") == ("1000", 3)
    assert alter(wire, BROKER, "1", ("message.max.bytes", SET, "9000")) == 0
    assert produced(wire, "plain", large).error_code == 0
    assert value_of(wire, TOPIC, "plain", "max.message.bytes") == ("9000", 2)
    assert alter(wire, BROKER, "1", ("message.max.bytes", DELETE, None)) == 0
    assert value_of(wire, TOPIC, "plain", "max.message.bytes") == ("1000", 3)
    assert alter(wire, BROKER, "", ("message.max.bytes", DELETE, None)) == 0
    assert value_of(wire, TOPIC, "plain", "max.message.bytes") == ("1048588", 5)


def test_what_was_changed_outlives_a_restart(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert (
            alter(wire, BROKER, "", ("log.retention.ms", SET, "5000"), ("log.cleanup.policy", APPEND, "compact")) == 0
        )
        assert alter(wire, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000")) == 0
    broker.restart()
    with Wire(broker.bootstrap) as wire:
        assert value_of(wire, TOPIC, "t", "retention.ms") == ("5000", 3)
        assert value_of(wire, TOPIC, "t", "cleanup.policy") == ("delete,compact", 3)
        assert value_of(wire, GROUP, "g", "consumer.session.timeout.ms") == ("50000", 8)


def test_what_the_broker_was_started_with_is_a_synonym(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(tmp_path, fsync=False, message_max_bytes=2000, num_partitions=3) as broker,
        Wire(broker.bootstrap) as wire,
    ):
        create_topic(wire, "t")
        assert value_of(wire, BROKER, "1", "num.partitions") == ("3", 4)
        assert value_of(wire, TOPIC, "t", "max.message.bytes") == ("2000", 4)
        assert alter(wire, BROKER, "", ("message.max.bytes", SET, "3000")) == 0
        _, found = describe(wire, TOPIC, "t", "max.message.bytes")
        assert found["max.message.bytes"].synonyms == [
            ("message.max.bytes", "3000", 3),
            ("message.max.bytes", "2000", 4),
            ("message.max.bytes", "1048588", 5),
        ]


def test_fewer_connections_may_be_allowed_while_the_broker_runs(broker: EmbeddedBroker, wire: Wire) -> None:
    assert alter(wire, BROKER, "", ("max.connections", SET, "1")) == 0
    with Wire(broker.bootstrap) as refused:
        assert refused.is_closed_by_broker()
    assert alter(wire, BROKER, "", ("max.connections", DELETE, None)) == 0
    with Wire(broker.bootstrap) as taken:
        create_topic(taken, "t")


def test_an_unknown_broker_setting_is_stored_and_never_shown(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    assert alter(wire, BROKER, "1", ("my.password", SET, "hunter2")) == 0
    _, found = describe(wire, BROKER, "1", "my.password")
    shown = found["my.password"]
    assert (shown.value, shown.is_sensitive, shown.synonyms) == (None, True, [("my.password", None, 2)])
    assert "hunter2" not in caplog.text


def test_a_known_secret_is_not_stored(broker: EmbeddedBroker, wire: Wire) -> None:
    assert alter(wire, BROKER, "1", ("sasl.jaas.config", SET, "hunter2")) == ErrorCode.INVALID_REQUEST
    stored = broker.data_dir / FILE_NAME
    assert not stored.exists() or "hunter2" not in stored.read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl.cipher.suites", "TLS_AES_256_GCM_SHA384"),
        ("principal.builder.class", "com.example.Builder"),
        ("ssl.engine.factory.class", "com.example.Factory"),
        ("listener.name.x.ssl.keystore.password", "hunter2"),
        ("listener.name.x.ssl.cipher.suites", ""),
    ],
)
def test_what_would_protect_nothing_is_refused_and_not_stored(
    broker: EmbeddedBroker, wire: Wire, name: str, value: str
) -> None:
    assert alter(wire, BROKER, "1", (name, SET, value)) == ErrorCode.INVALID_REQUEST
    assert replace(wire, BROKER, "1", **{name.replace(".", "_"): value}) == ErrorCode.INVALID_REQUEST
    assert not (broker.data_dir / FILE_NAME).exists()


def test_a_protective_setting_may_be_what_it_is_without_being_set(wire: Wire) -> None:
    assert alter(wire, BROKER, "1", ("ssl.cipher.suites", SET, "")) == 0


def test_client_metrics_are_refused(wire: Wire) -> None:
    assert alter(wire, METRICS, "m", ("interval.ms", SET, "5000")) == ErrorCode.INVALID_REQUEST
    assert describe(wire, METRICS, "m")[0] == ErrorCode.INVALID_REQUEST


def test_the_level_of_a_logger_changes_at_once(wire: Wire) -> None:
    logger = logging.getLogger("logqueue.broker.partitions.topics")
    try:
        assert alter(wire, LOGGER, "1", ("logqueue.broker.partitions.topics", SET, "TRACE")) == 0
        assert logger.level == 5
        assert describe(wire, LOGGER, "1")[1]["logqueue.broker.partitions.topics"].value == "TRACE"
        assert alter(wire, LOGGER, "1", ("logqueue.broker.partitions.topics", DELETE, None)) == 0
        assert logger.level == logging.NOTSET
    finally:
        logger.setLevel(logging.NOTSET)


def test_levels_of_loggers_change_all_or_none(wire: Wire) -> None:
    logger = logging.getLogger("logqueue.broker.partitions.topics")
    before = logger.level
    try:
        changes = (logger.name, SET, "TRACE"), ("no.such", SET, "INFO")
        assert alter(wire, LOGGER, "1", *changes) == ErrorCode.INVALID_CONFIG
        assert logger.level == before
    finally:
        logger.setLevel(before)


def test_a_node_id_of_thousands_of_digits_is_that_of_nobody(wire: Wire) -> None:
    name = "1" * 5000
    assert describe(wire, BROKER, name)[0] == ErrorCode.INVALID_REQUEST
    assert alter(wire, BROKER, name, ("log.retention.ms", SET, "1")) == ErrorCode.INVALID_REQUEST
    assert alter(wire, LOGGER, name, ("root", SET, "INFO")) == ErrorCode.INVALID_REQUEST


def test_a_damaged_file_of_settings_keeps_the_broker_from_starting(broker: EmbeddedBroker) -> None:
    broker.stop()
    (broker.data_dir / FILE_NAME).write_text('{"version": 1, "resources": 3}')
    with pytest.raises(Exception, match=r"logqueue-settings\.json is damaged"):
        broker.start()
    (broker.data_dir / FILE_NAME).unlink()
    broker.start()


def test_the_level_of_compression_decides_what_is_stored(wire: Wire) -> None:
    from logqueue.protocol.messages.describe_log_dirs import DescribeLogDirsRequest

    words = [f"{number * 7919 % 1_000_003:x}" for number in range(300)]
    text = " ".join(words[number * number * 31 % 300] for number in range(20_000)).encode()
    for codec, low, high in (("gzip", 1, 9), ("zstd", 1, 19), ("lz4", 1, 12)):
        for level in (low, high):
            create(wire, f"{codec}-{level}", compression_type=codec, **{f"compression_{codec}_level": str(level)})
            assert produced(wire, f"{codec}-{level}", batch(text)).error_code == 0
        answer = wire.call(4, DescribeLogDirsRequest(topics=None)).results[0]
        sizes = {topic.name: topic.partitions[0].partition_size for topic in answer.topics}
        assert sizes[f"{codec}-{high}"] < sizes[f"{codec}-{low}"] < len(text), codec

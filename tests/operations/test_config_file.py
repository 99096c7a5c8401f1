"""A broker's settings from a file in Kafka's names: read as Java reads it, faults told by line, later sources win."""

from __future__ import annotations

from pathlib import Path

import pytest

from logqueue.broker.command import UsageError, parse
from logqueue.config import InvalidConfig
from logqueue.config.properties_file import parse_properties

KAFKA_FILE = """\
# a comment, and ! another
process.roles=broker,controller
node.id = 7
listeners=PLAINTEXT://127.0.0.1:19092
log.dirs=%s
num.partitions: 3
log.retention.hours 2
num.io.threads=8
socket.request.max.bytes=\\
    1048576
"""


def test_the_format_is_that_of_java_properties() -> None:
    text = "\n".join(
        ["a=1", "  b : 2 ", "! no", "c   3", "d\\=e=f\\tg", "h=\\u00e4", "i=1,\\", "   2", "j", "k=a=b", "l=\\\\", "m="]
    )
    assert [tuple(line) for line in parse_properties(text)] == [
        (1, "a", "1"),
        (2, "b", "2 "),
        (4, "c", "3"),
        (5, "d=e", "f\tg"),
        (6, "h", "ä"),
        (7, "i", "1,2"),
        (9, "j", ""),
        (10, "k", "a=b"),
        (11, "l", "\\"),
        (12, "m", ""),
    ]


def test_a_kafka_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text(KAFKA_FILE % (tmp_path / "data"))
    options = parse(["--config", str(path)])
    assert options.config.node_id == 7
    assert options.config.data_dir == tmp_path / "data"
    assert options.config.num_partitions == 3
    assert options.config.socket_request_max_bytes == 1_048_576
    assert options.log_defaults.retention_ms == 2 * 3_600_000
    assert options.warnings == ()
    assert [note.partition(": ")[2].split()[0] for note in options.notes] == ["process.roles"]


def test_later_sources_count_more(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("port=1111\nnum.partitions=2\nnum.partitions=3\nlog.retention.ms=5\nlog.retention.hours=9\n")
    options = parse(
        ["--kafka-port", "3333", "--config", str(path), "--override", "port=2222", "--override", "num.partitions=4"]
    )
    assert (options.config.port, options.config.num_partitions) == (3333, 4)
    assert options.log_defaults.retention_ms == 5


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "num.partitions=many",
            "server.properties:2: Invalid value 'many' for configuration num.partitions: not a int",
        ),
        ("log.retention.ms=-7", "server.properties:2: Invalid value -7 for configuration log.retention.ms"),
        ("log.cleanup.policy=shred", "server.properties:2: Invalid value shred for configuration log.cleanup.policy"),
        ("create.topic.policy.class.name=com.example.Policy", "create.topic.policy.class.name is not offered here"),
        ("listener.name.x.ssl.keystore.location=/x", "is not offered here, and starting without it would be unsafe"),
        ("log.dirs=/a,/b", "there is one data folder"),
        ("log.cleaner.min.compaction.lag.ms=9\nlog.cleaner.max.compaction.lag.ms=8", "conflict topic config setting"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "server.properties"
    path.write_text(f"\n{line}\n")
    with pytest.raises(InvalidConfig) as caught:
        parse(["--config", str(path)])
    assert fault in str(caught.value)


def test_an_unknown_name_in_a_file_is_a_warning_that_says_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("num.partition=2\nmy.own.thing=1\n")
    options = parse(["--config", str(path)])
    assert options.warnings == (
        f"{path}:1: unknown setting num.partition; did you mean num.partitions?",
        f"{path}:2: unknown setting my.own.thing",
    )
    assert options.config.num_partitions == 1


def test_an_unknown_name_on_the_command_line_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"Unknown configuration num\.partition; did you mean num\.partitions\?"):
        parse(["--override", "num.partition=2"])


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        parse(["--config", str(tmp_path / "missing")])
    (tmp_path / "binary").write_bytes(b"a=\xff\xfe")
    with pytest.raises(UsageError, match="not a properties file in UTF-8"):
        parse(["--config", str(tmp_path / "binary")])


def test_a_secret_with_a_fault_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("ssl.keystore.password=hunter2\nnum.partitions=x\n")
    with pytest.raises(InvalidConfig) as caught:
        parse(["--config", str(path)])
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(parse(["--override", "ssl.keystore.password=hunter2"]).config)

"""Properties become typed values, and what is wrong with them is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from logqueue.config import BrokerConfig, InvalidConfig, LogConfig, format_value
from logqueue.errors import ErrorCode


def test_defaults_are_those_of_kafka() -> None:
    config = LogConfig()
    assert config.retention_ms == 7 * 24 * 3600 * 1000
    assert config.segment_bytes == 1 << 30
    assert config.max_message_bytes == 1_048_588
    assert config.cleanup_policy == ("delete",)


def test_property_text_becomes_typed_values_over_a_base() -> None:
    base = LogConfig.from_properties({"retention.ms": "-1"})
    config = LogConfig.from_properties({"cleanup.policy": "compact, delete", "preallocate": "TRUE"}, base=base)
    assert (config.retention_ms, config.cleanup_policy, config.preallocate) == (-1, ("compact", "delete"), True)


def test_every_value_survives_its_text_form() -> None:
    for config in (LogConfig(), BrokerConfig()):
        text = {name.name: format_value(value) for name, value in config.items() if value is not None}
        assert type(config).from_properties(text) == config


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"retention.hours": "1"}, "Unknown configuration retention.hours"),
        ({"retention.ms": "soon"}, "'soon' for configuration retention.ms: not a long"),
        ({"retention.ms": "-2"}, "retention.ms: must be at least -1"),
        ({"cleanup.policy": "shred"}, "cleanup.policy: must be one of delete, compact"),
        ({"preallocate": "perhaps"}, "preallocate: not a boolean"),
    ],
)
def test_a_wrong_property_is_named_with_what_is_allowed(properties: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words) as error:
        LogConfig.from_properties(properties)
    assert error.value.code is ErrorCode.INVALID_CONFIG


def test_the_data_folder_is_a_path() -> None:
    assert BrokerConfig.from_properties({"log.dir": "/data"}).data_dir == Path("/data")

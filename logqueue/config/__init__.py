"""Frozen configurations with Kafka's own property names, and the tables they are described by.

One `Property` describes one setting: its Kafka name, type, default and meaning. `LogConfig` (per topic) and
`BrokerConfig` (per process) are built from text properties, so that a Kafka user finds what they know.
"""

from logqueue.config.broker import BrokerConfig
from logqueue.config.properties import INT_MAX, LONG_MAX, ConfigType, InvalidConfig, Property, format_value
from logqueue.config.topic import LogConfig

__all__ = [
    "INT_MAX",
    "LONG_MAX",
    "BrokerConfig",
    "ConfigType",
    "InvalidConfig",
    "LogConfig",
    "Property",
    "format_value",
]

"""Settings that are changed while the broker runs (KIP-226): kept durably, and what follows from them. No wire format.

A broker setting is the broker's own, else the cluster's (name ""), else what the broker was started with, else the
default.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from logqueue.errors import KafkaError
from logqueue.storage.settings import read_settings, write_settings

if TYPE_CHECKING:
    from logqueue.config import BrokerConfig, LogConfig
    from logqueue.config.group import GroupConfig
    from logqueue.storage.environment import Environment

log = logging.getLogger("logqueue.broker.settings.configs")

BROKER = "broker"
GROUP = "group"
CLUSTER_NAME = ""  # of the defaults for all brokers
_NOTHING: Mapping[str, str] = {}


class DynamicConfigs:
    """What was changed, by kind and name of the resource. Changes are durable when the call returns."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        """Reads what is stored. Raises DataFolderError or OSError."""
        self._environment = environment
        self._folder = folder.absolute()
        self._settings = read_settings(environment.fs, self._folder)

    def of(self, kind: str, name: str) -> Mapping[str, str]:
        """The texts set on one resource."""
        return self._settings.get(kind, {}).get(name, _NOTHING)

    def names(self, kind: str) -> list[str]:
        """Resources of a kind that have settings of their own."""
        return list(self._settings.get(kind, ()))

    def replace(self, kind: str, name: str, texts: Mapping[str, str]) -> None:
        """Make these the only settings of a resource. Raises StorageError."""
        health = self._environment.health
        health.check()
        changed = {key: dict(resources) for key, resources in self._settings.items()}
        of_kind = changed.setdefault(kind, {})
        if texts:
            of_kind[name] = dict(texts)
        else:
            of_kind.pop(name, None)
        try:
            write_settings(self._environment.fs, self._folder, changed)
        except OSError as error:
            raise health.fail(f"writing the settings of {self._folder}", error) from error
        self._settings = changed


def effective(static: Mapping[str, str], dynamic: DynamicConfigs, node_id: int) -> tuple[BrokerConfig, LogConfig]:
    """What a broker has, everything considered. Raises InvalidConfig."""
    from logqueue.config.catalogue import resolve

    return resolve({**static, **dynamic.of(BROKER, CLUSTER_NAME), **dynamic.of(BROKER, str(node_id))})


def group_config(dynamic: DynamicConfigs, group_id: str, config: BrokerConfig) -> GroupConfig:
    """What a group has. A stored setting that the broker's bounds no longer allow is passed over."""
    from logqueue.config.group import GroupConfig

    texts = dynamic.of(GROUP, group_id)
    try:
        return GroupConfig.of(texts, config)
    except KafkaError as error:
        log.warning("settings of group %s are passed over: %s", group_id, error)
        return GroupConfig.defaults(config)

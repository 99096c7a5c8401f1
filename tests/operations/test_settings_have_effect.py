"""A setting that is accepted does something, or says in its documentation that it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from logqueue.config import BrokerConfig, LogConfig
from logqueue.config.catalogue import definitions, fallbacks, topic_synonyms
from logqueue.config.group import GroupConfig
from logqueue.config.properties import Properties


def code(repository: Path) -> str:
    files = [path for path in (repository / "logqueue").rglob("*.py") if "config" not in path.parts]
    files.append(repository / "logqueue" / "config" / "listeners.py")
    files.append(repository / "logqueue" / "config" / "group.py")
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("kind", [BrokerConfig, LogConfig, GroupConfig])
def test_a_setting_with_an_effect_is_read_by_the_code(kind: type[Properties], repository: Path) -> None:
    text = code(repository)
    unread = [
        prop.name
        for field, prop in zip(kind.field_names(), kind.properties().values(), strict=True)
        if prop.has_effect
        and not prop.is_internal
        and len(prop.choices or ("any", "other")) > 1  # of one allowed value nothing follows
        and not re.search(rf"\.{field}\b", text)
    ]
    assert unread == []


def test_a_setting_without_effect_says_so() -> None:
    described = [*definitions().values()]
    for each in described:
        prop = each.property
        if not prop.has_effect:
            assert re.search(r"Kept for Kafka's tools|tiered storage here|one replica", prop.doc), prop.name


def test_every_setting_has_documentation_of_its_own_and_a_default_that_parses() -> None:
    for name, each in definitions().items():
        assert len(each.property.doc) > 10, name
        if each.default is not None and name not in ("broker.id", "log.dirs"):
            each.property.parse(each.default)


def test_every_default_of_topics_has_a_broker_wide_name_that_is_known() -> None:
    for synonym, topic in topic_synonyms().items():
        assert synonym in definitions()
        assert topic in LogConfig.properties()
        assert synonym in fallbacks(synonym)

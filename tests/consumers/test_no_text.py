"""What others write may be no UTF-8: that is as unreadable as what is no JSON, and ends nobody."""

from __future__ import annotations

import pytest
from logqueue_api.rest.catalogue import Catalogue
from logqueue_consumers.bridges.queue_classes import QueueClasses
from logqueue_consumers.heartbeats.roster import Roster
from logqueue_consumers.wills.will import decode

from logqueue.jobs.case_file import InvalidCase, read_lines
from logqueue.jobs.control import ControlState, read_value

NO_TEXT = (
    b'{"format": "\xff", "id": "\xff", "worker": "\xff", "type": "\xff", "by": "\xff", "app": "\xff", "queue": "\xff"}'
)


def test_a_command_is_passed_over() -> None:
    assert read_value(NO_TEXT) is None
    ControlState().apply(b"cancel/a", NO_TEXT)


def test_a_heartbeat_is_passed_over() -> None:
    roster = Roster()
    roster.apply(b"w", NO_TEXT)
    assert roster.unreadable == 1


def test_a_will_is_none() -> None:
    assert decode(NO_TEXT + b"\n") is None


def test_a_published_definition_is_passed_over() -> None:
    assert not QueueClasses.of([NO_TEXT]).by_queue
    assert not Catalogue({"definition/a/t": NO_TEXT}).jobs


def test_a_line_of_a_case_file_is_named() -> None:
    with pytest.raises(InvalidCase, match="line 1"):
        list(read_lines([NO_TEXT], name="cases"))

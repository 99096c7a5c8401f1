"""What a result says, and what the command line takes."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from benchmarks import __main__ as command
from benchmarks import report, stack
from benchmarks.peers.missing import Missing


def workload(run: object, **settings: int | str) -> ModuleType:
    module = ModuleType("tried", "How fast is it?\n\nMore.")
    module.SETTINGS, module.run, module.PEERS = settings, run, ("other",)  # type: ignore[attr-defined]
    return module


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Have the command know one workload, `tried`, and run it with these words."""

    def run(module: ModuleType, *words: str) -> int:
        monkeypatch.setattr(command, "names", lambda: ["tried"])
        monkeypatch.setattr(command, "load", lambda name: module)
        monkeypatch.setattr("sys.argv", ["benchmarks", *words])
        return command.main()

    return run


def test_every_workload_asks_one_question_and_has_settings():
    for name in command.names():
        module = command.load(name)
        assert "?" in command.question(module), name
        assert module.SETTINGS, name


def test_figures_are_shown_with_their_minimum_median_and_maximum():
    assert report.summarise([{"a": 3.0}, {"a": 1.0}, {"a": 8.0}]) == {"a": {"min": 1.0, "median": 3.0, "max": 8.0}}


def test_ratios_are_taken_pair_by_pair_and_leave_out_what_a_peer_has_as_zero_or_not_at_all():
    ours, theirs = [{"a": 2.0, "b": 1.0, "c": 1.0}, {"a": 9.0, "b": 1.0, "c": 1.0}], [{"a": 1.0, "b": 0.0}] * 2
    assert report.ratios(ours, theirs) == [{"a": 2.0}, {"a": 9.0}]


def test_a_percentile_is_one_of_the_values():
    values = sorted(range(100))
    assert report.percentile(values, 0.5) == 50
    assert report.percentile(values, 1.0) == 99


def test_runs_of_a_peer_alternate_with_ours(only, capsys):
    order = []

    def run(settings, engine="logqueue"):
        order.append(engine)
        return {"a": 1.0}

    assert only(workload(run, size=1), "tried", "--runs", "2", "--vs", "other", "--json") == 0
    assert order == ["logqueue", "other", "logqueue", "other"]
    result = json.loads(capsys.readouterr().out)
    assert result["ratios"]["a"]["median"] == 1.0
    assert {"commit", "load", "machine", "versions", "settings"} <= result.keys()


def test_a_missing_peer_skips_the_workload_with_its_reason(only, capsys):
    def run(settings, engine="logqueue"):
        raise Missing("no compiler")

    assert only(workload(run, size=1), "tried") == 0
    assert "tried is skipped: no compiler" in capsys.readouterr().err


def test_settings_are_changed_by_name(only):
    seen = []

    def run(settings):
        seen.append(settings)
        return {"a": 1.0}

    module = workload(run, size=1, kind="x", seconds=3)
    only(module, "tried", "--runs", "1", "--set", "size=-5", "--set", "kind=y", "--seconds", "9")
    assert seen == [{"size": -5, "kind": "y", "seconds": 9}]


@pytest.mark.parametrize(("fsync", "acks", "waits"), [(1, -1, True), (1, 1, False), (0, -1, False)])
def test_only_acks_of_all_wait_for_the_disk(fsync, acks, waits):
    assert stack.waits_for_disk({"fsync": fsync, "acks": acks}) is waits


@pytest.mark.parametrize("words", [("--set", "nothing=1"), ("--set", "size=x"), ("--vs", "nobody"), ("--seconds", "3")])
def test_what_a_workload_does_not_know_is_refused(only, capsys, words):
    with pytest.raises(SystemExit):
        only(workload(lambda settings: {}, size=1), "tried", *words)
    assert words[0] in capsys.readouterr().err

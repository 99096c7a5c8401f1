"""What a result says, and what the command line takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as command
from benchmarks import logs, report
from benchmarks.peers import promises
from benchmarks.peers.missing import Missing
from benchmarks.settings import changed
from logqueue.jobs.settings import load_settings


class Peers(dict):
    """Promises of whoever is asked for."""

    def __missing__(self, name: str) -> str:
        return f"what {name} promises"


def workload(run: object, **settings: int | str) -> ModuleType:
    module = ModuleType("tried", "How fast is it?\n\nMore.")
    module.SETTINGS, module.run, module.PEERS = settings, run, ("other",)  # type: ignore[attr-defined]
    return module


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Have the command know one workload, `tried`, and run it with these words."""

    def run(module: ModuleType, *words: str) -> int:
        monkeypatch.setattr(command, "names", lambda: ["tried"])
        monkeypatch.setattr(command, "load", lambda name: module)
        monkeypatch.setattr(promises, "PROMISES", Peers())
        monkeypatch.setattr(command, "RESULTS", tmp_path)
        monkeypatch.setattr(command, "IDLE_LOOKS", 0)
        monkeypatch.setattr(report, "BUSY_SECONDS", 0.0)
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


def test_runs_of_a_peer_alternate_with_ours_and_the_order_changes(only, capsys):
    order = []

    def run(settings, engine="logqueue"):
        order.append(engine)
        return {"a": 1.0}

    assert only(workload(run, size=1), "tried", "--runs", "3", "--vs", "other", "--json") == 0
    assert order == ["other", "logqueue", "logqueue", "other", "other", "logqueue"]
    result = json.loads(capsys.readouterr().out)
    assert result["ratios"]["a"]["median"] == 1.0
    assert {"commit", "busy_before", "machine", "disk", "versions", "settings"} <= result.keys()


def test_what_a_run_gave_stays_with_whom_it_was_of_when_the_order_changes(only, capsys):
    def run(settings, engine="logqueue"):
        return {"a": 1.0 if engine == "other" else 3.0}

    assert only(workload(run, size=1), "tried", "--runs", "2", "--vs", "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ratios"]["a"] == {"min": 3.0, "median": 3.0, "max": 3.0}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0351, "0.0351"), (0.5, "0.500"), (12.71, "12.7"), (98_765.0, "98,765"), (0.0, "0.00"), (1e-12, "0.000000000")],
)
def test_ratios_have_three_significant_digits(value, shown):
    peer = report.Compared(name="other", runs=[{"a": 1.0}])
    text = report.as_text("tried", "How fast?", {"size": 1}, [{"a": value}], peer, facts=report.circumstances())
    assert text.splitlines()[-1].split() == ["a", shown, shown, shown]


def test_a_result_tells_the_disk(only, capsys):
    assert only(workload(lambda settings: {"a": 1.0}, size=1), "tried", "--runs", "1") == 0
    assert re.search(
        r"^  disk      \w+.*, fdatasync of 300 bytes \d+ us \(p50\), \d+ us", capsys.readouterr().out, re.M
    )


def test_a_file_system_in_memory_is_told_as_such():
    facts = {**report.circumstances(), "disk": {"file_system": "tmpfs", "fdatasync_p50_us": 0, "fdatasync_p99_us": 1}}
    assert "tmpfs (memory:" in report.as_text("tried", "How fast?", {"size": 1}, [{"a": 1.0}], facts=facts)
    assert report.file_system(Path("/proc/self/fd")) == "proc"


def test_users_settings_do_not_reach_a_workload_and_come_back(only, monkeypatch):
    seen = []

    def run(settings):
        seen.append((load_settings(bootstrap="127.0.0.1:1").topic_prefix, "LOGQUEUE_API" in os.environ))
        return {"a": 1.0}

    monkeypatch.setenv("LOGQUEUE_TOPIC_PREFIX", "mine.")
    monkeypatch.setenv("LOGQUEUE_API", "http://mine.example")
    only(workload(run, size=1), "tried", "--runs", "1")
    assert seen == [("", False)]
    assert os.environ["LOGQUEUE_TOPIC_PREFIX"] == "mine."


def test_before_a_result_is_saved_the_machine_is_idle_or_two_minutes_are_over(monkeypatch, capsys):
    def looks(*shares: float) -> int:
        left, looked = list(shares), []

        def busy() -> float:
            looked.append(share := left.pop(0) if len(left) > 1 else left[0])
            return share

        command.wait_until_idle(busy=busy)
        return len(looked)

    assert looks(0.09) == 1
    assert capsys.readouterr().err == ""
    assert looks(0.9, 0.5, 0.05) == 3
    assert "processors busy: 90%; waiting" in capsys.readouterr().err
    assert looks(0.9) == 121


def test_what_others_use_of_the_processors_is_a_share():
    assert 0.0 <= report.busy_share(0.05) <= 1.0


def test_no_further_turn_begins_that_would_end_too_late():
    now = [0.0]

    def run(settings, engine="logqueue"):
        now[0] += 10
        return {"a": now[0]}

    def turns(within_seconds: float) -> int:
        now[0] = 0.0
        done = command.turns(workload(run), {}, "other", 5, within_seconds=within_seconds, clock=lambda: now[0])
        return sum(ours is not None and theirs is not None for ours, theirs in done)

    assert [turns(limit) for limit in (1, 39, 60, 1_000)] == [1, 1, 3, 5]


def test_a_missing_peer_skips_the_workload_with_its_reason(only, capsys):
    def run(settings, engine="logqueue"):
        raise Missing("no compiler")

    assert only(workload(run, size=1), "tried") == 0
    assert "tried is skipped: no compiler" in capsys.readouterr().err


def test_a_missing_peer_is_told_before_anything_is_measured(only, capsys):
    def run(settings, engine="logqueue"):
        assert engine == "other"
        raise Missing("no such peer here")

    assert only(workload(run, size=1), "tried", "--vs", "other") == 0
    assert "tried is skipped: no such peer here" in capsys.readouterr().err


def test_without_a_word_about_runs_there_are_five(only, capsys):
    assert only(workload(lambda settings: {"a": 1.0}, size=1), "tried", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 5


@pytest.mark.parametrize("words", [("--runs", "0"), ("--within", "0"), ("--within", "nan"), ("--vs", "nobody")])
def test_words_that_cannot_be_are_refused_before_anything_runs(only, capsys, words):
    with pytest.raises(SystemExit):
        only(workload(None, size=1), "tried", *words)
    assert f"{words[0]}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("scale", "\u00b2/1/1"),
        ("scale", "1/0/1"),
        ("requests", "\u00b2x1"),
        ("log", "\u00b2/none/1/1"),
        ("log", "0/none/1/1"),
    ],
)
def test_a_cell_that_is_none_is_refused_before_anything_starts(name, cells):
    module = command.load(name)
    with pytest.raises(report.InvalidSetting, match="a cell is"):
        module.run({**module.SETTINGS, "cells": cells})


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (TimeoutError("no answer"), "TimeoutError: no answer"),
        (ConnectionRefusedError("nobody there"), "ConnectionRefusedError: nobody there"),
        (EOFError("closed"), "EOFError: closed"),
        (KeyError("items"), "KeyError: 'items'"),
        (subprocess.TimeoutExpired("worker", 3), "TimeoutExpired: Command 'worker' timed out after 3 seconds"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("503")])]), "ValueError: 503"),
    ],
)
def test_a_workload_whose_log_is_gone_says_so_without_a_traceback(only, capsys, problem, said):
    def run(settings):
        raise problem

    assert only(workload(run, size=1), "tried") == 1
    assert capsys.readouterr().err.endswith(f"tried came to no end: {said}\n")


def test_a_workload_that_breaks_off_says_why_without_a_traceback(only, capsys):
    def run(settings):
        raise RuntimeError("5 of 9 jobs ended within 3 s")

    assert only(workload(run, size=1), "tried") == 1
    assert capsys.readouterr().err.endswith("tried came to no end: RuntimeError: 5 of 9 jobs ended within 3 s\n")


@pytest.mark.parametrize(("problem", "code"), [(IndexError("no worker"), 1), (KeyboardInterrupt(), 130)])
def test_runs_before_one_that_breaks_off_are_shown_and_not_saved(only, capsys, tmp_path, problem, code):
    left = [{"a": 7.0}, {"a": 9.0}]

    def run(settings):
        if not left:
            raise problem
        return left.pop()

    assert only(workload(run, size=1), "tried", "--save") == code
    said = capsys.readouterr().out
    assert "runs=2" in said
    assert "7.00          8.00          9.00" in said
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_of_the_first_run_has_nothing_to_show_and_no_traceback(only, capsys):
    def run(settings):
        raise KeyboardInterrupt

    assert only(workload(run, size=1), "tried") == 130
    assert capsys.readouterr().out == ""


def test_settings_are_changed_by_name(only):
    seen = []

    def run(settings):
        seen.append(settings)
        return {"a": 1.0}

    module = workload(run, size=1, kind="x", seconds=3)
    only(module, "tried", "--runs", "1", "--set", "size=5", "--set", "kind=y", "--seconds", "9")
    assert seen == [{"size": 5, "kind": "y", "seconds": 9}]


@pytest.mark.parametrize(("fsync", "acks", "waits"), [(1, -1, True), (1, 1, False), (0, -1, False)])
def test_only_acks_of_all_wait_for_the_disk(fsync, acks, waits):
    assert logs.waits_for_disk({"fsync": fsync, "acks": acks}) is waits


def test_a_result_with_a_peer_tells_what_both_promise(only, capsys):
    assert only(workload(lambda settings, engine="": {"a": 1.0}, size=1), "tried", "--runs", "1", "--vs", "other") == 0
    said = capsys.readouterr().out
    assert "promise   logqueue: durable" in said
    assert "promise   other: what other promises" in said


def test_a_result_without_git_has_no_commit_and_all_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = report.circumstances()
    assert "commit unknown," in report.as_text("tried", "How fast?", {"size": 1}, [{"a": 1.0}], facts=facts)


def test_every_peer_of_every_workload_has_a_promise():
    for name in command.names():
        for peer in getattr(command.load(name), "PEERS", ()):
            assert promises.told(peer)[peer], (name, peer)


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (("--save",), "tried.txt"),
        (("--save", "quick"), "quick.txt"),
        (("--save", "--vs", "other"), "tried-vs-other.txt"),
        (("--save", "quick", "--vs", "other"), "quick-vs-other.txt"),
    ],
)
def test_a_result_is_saved_under_its_name(only, tmp_path, words, file):
    only(workload(lambda settings, engine="": {"a": 1.0}, size=1), "tried", "--runs", "1", *words)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert "How fast is it?" in (tmp_path / file).read_text()


@pytest.mark.parametrize(("words", "said"), [(("--save",), "NAME --save"), (("--save", "tried"), "'tried' was taken")])
def test_save_before_the_name_of_a_workload_is_refused_with_what_to_write(only, capsys, words, said):
    with pytest.raises(SystemExit):
        only(workload(None, size=1), *words)
    assert said in capsys.readouterr().err


def test_a_result_is_not_saved_in_place_of_another_workloads(only, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "drain", "--save", "log"])
    with pytest.raises(SystemExit):
        command.main()
    assert "a workload is saved under that name" in capsys.readouterr().err


def test_what_a_workload_says_of_a_wrong_setting_is_shown_without_a_traceback(only, capsys):
    def run(settings):
        raise report.InvalidSetting("a cell has two numbers")

    with pytest.raises(SystemExit):
        only(workload(run, cells="x"), "tried")
    assert "a cell has two numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "nothing=1"),
        ("--set", "size=x"),
        ("--set", "size=0"),
        ("--set", "size=-5"),
        ("--set", "size"),
        ("--vs", "nobody"),
        ("--seconds", "3"),
        ("--runs", "0"),
        ("--save", "../up"),
    ],
)
def test_what_a_workload_does_not_know_is_refused(only, capsys, words):
    with pytest.raises(SystemExit):
        only(workload(lambda settings: {}, size=1), "tried", *words)
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("cells=", "the default is 10 100"),
        ("cells=10 x", "whole numbers from 1 on"),
        ("cells=0", "whole numbers from 1 on"),
        ("cells=10 10", "one of them comes twice"),
        ("delays_us=-1", "whole numbers from 0 on"),
        ("fsync=2", "there are 0, 1"),
        ("acks=0", "there are -1, 1"),
        ("processing=twice", "there are at_least_once, exactly_once"),
        ("seconds=0", "a whole number from 1 on"),
    ],
)
def test_a_setting_is_checked_before_anything_starts(change, told):
    settings = {"cells": "10 100", "delays_us": "0 5", "fsync": 1, "acks": 1, "processing": "x", "seconds": 3}
    with pytest.raises(report.InvalidSetting, match=told):
        changed("tried", settings, [change], seconds=None)


def test_the_settings_of_every_workload_are_valid():
    for name in command.names():
        settings = command.load(name).SETTINGS
        assert changed(name, settings, [f"{key}={value}" for key, value in settings.items()], seconds=None) == settings

"""What `up` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from logqueue_api.cli.exits import ExitCode
from logqueue_api.cli.main import main

SHOP = "from logqueue import App\n\napp = App('shop')\n\n\n@app.job('send', queue='emails')\ndef send() -> None: ...\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("shop.py", "--queue", "email"),
            "App 'shop' has no queue 'email' (did you mean 'emails'?); its queues are: emails",
        ),
        (("shop.py", "-q", "emails", "-q", "x"), "App 'shop' has no queue 'x'; its queues are: emails"),
        (("empty.py",), "App 'none' declares no job: there is nothing to work on"),
        (("-q", "emails"), "--queue emails is for workers, and without APP there are none"),
    ],
)
def test_what_no_worker_could_run_is_refused_before_anything_starts(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "empty.py").write_text("from logqueue import App\n\napp = App('none')\n")
    code = main(["up", *arguments, "--kafka-port", "0", "--http-port", "0", "--data-dir", "data"])
    told = capsys.readouterr()
    assert (code, told.out) == (ExitCode.USAGE, "")
    assert told.err.startswith(f"logqueue: {message}\n")
    assert not (tmp_path / "data").exists()


def test_a_setting_that_is_none_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOGQUEUE_BOOTSTRAP", raising=False)
    monkeypatch.setenv("LOGQUEUE_PROCESSING", "once")
    assert main(["up", "--kafka-port", "0", "--http-port", "0", "--data-dir", "data"]) == ExitCode.USAGE
    assert "LOGQUEUE_PROCESSING: 'once' is not one of exactly_once, at_least_once" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()

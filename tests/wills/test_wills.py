"""Wills: who can read whose, and what of them is believed."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.cache_folder import cache_folder
from logqueue_consumers.wills import will_file
from logqueue_consumers.wills.heirs import Heirs
from logqueue_consumers.wills.last_will import LastWill
from logqueue_consumers.wills.will import Membership, Will, decode, encode, key_of
from structlog.testing import capture_logs

from logqueue.jobs.settings import Settings

KEY = "k"
SETTINGS = Settings(bootstrap="127.0.0.1:1", connect_timeout_s=0.1)
CHILD = Path(__file__).with_name("holding_child.py")

memberships = st.builds(
    Membership, group=st.text(), member_id=st.text(), transactional_ids=st.lists(st.text()).map(tuple)
)
wills = st.builds(
    Will,
    worker=st.text(),
    transactional_id=st.none() | st.text(),
    memberships=st.lists(memberships, max_size=3).map(tuple),
)


@contextmanager
def living(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, str(CHILD), str(folder), KEY], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def claimed(folder: Path) -> list[bytes]:
    """What can be claimed now."""
    found = []
    for path in will_file.paths(folder):
        with will_file.claim(path) as file:
            if file is not None:
                found.append(file.read())
    return found


@given(wills, wills)
def test_a_will_is_read_as_it_was_written_also_over_a_longer_one(before: Will, after: Will) -> None:
    longer, content = encode(before), encode(after)
    assert decode(content + longer[len(content) :]) == after


@pytest.mark.parametrize("content", [b"", b"{", b'{"worker": "h:1"', b'{"worker": 1}\n', b"no\n"])
def test_what_is_not_a_whole_will_is_none(content: bytes) -> None:
    assert decode(content) is None


def test_only_workers_of_the_same_group_log_and_machine_see_each_other() -> None:
    same = {"machine": "m", "bootstrap": "b", "topic_prefix": "", "group": "g"}
    keys = {key_of(**same)} | {key_of(**same | {name: "other"}) for name in same}
    assert len(keys) == 1 + len(same)


def test_the_dead_can_be_claimed_and_the_living_and_the_stopped_cannot(tmp_path: Path) -> None:
    with living(tmp_path) as process:
        assert claimed(tmp_path) == []
        process.send_signal(signal.SIGSTOP)
        assert claimed(tmp_path) == [], "who is stopped may go on"
        process.kill()
        process.wait()
        assert claimed(tmp_path) == [b"something\n"]


def test_one_at_a_time_sees_to_a_will_and_nobody_after_it_is_settled(tmp_path: Path) -> None:
    with living(tmp_path) as process:
        process.kill()
        process.wait()
    (path,) = will_file.paths(tmp_path)
    with will_file.claim(path) as first:
        assert first is not None
        with will_file.claim(path) as second:
            assert second is None
        late = os.open(path, os.O_RDWR)
        first.remove()
        assert will_file.paths(tmp_path) == []
    with will_file.claim(path) as third:
        assert third is None
    os.close(late)


def test_a_will_follows_what_changes_and_is_gone_after_an_orderly_end(tmp_path: Path) -> None:
    settings = Settings(cache_dir=str(tmp_path))
    last = LastWill.draw_up(settings, group="g", worker="h:1")
    last.writes_as("t-1")
    last.is_member("g", "m-1")
    last.is_member("keepers", "k-1", ["a", "b"])
    last.is_member("g", "m-2")
    assert last.path is not None
    kept = Membership(group="keepers", member_id="k-1", transactional_ids=("a", "b"))
    told = decode(last.path.read_bytes())
    assert told == Will(
        worker="h:1", transactional_id="t-1", memberships=(kept, Membership(group="g", member_id="m-2"))
    )
    last.is_member("keepers", None)
    assert decode(last.path.read_bytes()) == last.will
    assert [membership.group for membership in last.will.memberships] == ["g"]
    last.tear_up()
    assert list((tmp_path / "wills").iterdir()) == []
    last.is_member("g", "m-3")
    assert list((tmp_path / "wills").iterdir()) == [], "nothing is written after the end"


def test_where_no_will_can_be_written_it_is_said_once_and_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as lines:
        last = LastWill.draw_up(Settings(cache_dir=str(tmp_path / "file")), group="g", worker="h:1")
        last.is_member("g", "m-1")
        last.tear_up()
    assert [line["event"] for line in lines] == ["if this worker is killed, its group waits for its session"]
    assert last.path is None


def look(own: LastWill) -> None:
    """Look for the dead once. There is no log, so settling raises."""
    heirs = Heirs(
        own,
        SETTINGS,
        group="g",
        transaction_timeout_ms=1_000,
        is_static=False,
        member_id=lambda: None,
        take_off_list=lambda worker: asyncio.sleep(0),
    )
    asyncio.run(heirs.look())


class NoHome:
    """A user whose cache folder cannot be made, and whose temporary folder others have been to before."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        self.folder = tmp_path / f"logqueue-{os.getuid()}"

    def plant(self, mode: int) -> Path:
        """A will in that user's temporary folder."""
        key = key_of(machine=will_file.machine(), bootstrap=SETTINGS.bootstrap, topic_prefix="", group="g")
        self.folder.mkdir()
        file = will_file.create(self.folder / "wills", key)
        file.write(encode(Will(worker="evil:1", transactional_id="mine")))
        file.close()
        self.folder.chmod(mode)
        assert file.path is not None
        return file.path

    @staticmethod
    def look() -> LastWill:
        """Start a worker there, and look for the dead."""
        own = LastWill.draw_up(SETTINGS, group="g", worker="h:1")
        try:
            look(own)
        finally:
            own.tear_up()
        return own


def test_a_temporary_folder_is_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = NoHome(tmp_path, monkeypatch)
    assert home.look().folder == home.folder / "wills"
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert cache_folder(SETTINGS) == home.folder, "it is taken again"


@pytest.mark.parametrize("is_other", [False, True], ids=["others may write", "of another user"])
def test_a_will_in_a_temporary_folder_that_others_could_write_to_is_not_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_other: bool
) -> None:
    home = NoHome(tmp_path, monkeypatch)
    planted = home.plant(0o700 if is_other else 0o777)
    if is_other:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    own = home.look()
    assert planted.exists()
    assert own.folder != planted.parent
    assert cache_folder(SETTINGS) == own.folder.parent, "all of a process is in one folder"


def test_a_worker_without_a_will_settles_none(tmp_path: Path) -> None:
    file = will_file.create(tmp_path, KEY)
    file.write(encode(Will(worker="evil:1", transactional_id="mine")))
    file.close()
    own = LastWill(tmp_path, KEY, Will(worker="h:1"), None)
    look(own)
    assert len(will_file.paths(tmp_path)) == 1


def test_a_user_without_a_home_has_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder(SETTINGS) == tmp_path / f"logqueue-{os.getuid()}"


def test_where_no_folder_can_be_made_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = NoHome(tmp_path, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert home.look().path is None


def test_a_folder_of_somebody_else_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        will_file.create(tmp_path, KEY)


def test_what_nobody_came_for_is_removed_after_a_day(tmp_path: Path) -> None:
    with living(tmp_path) as process, living(tmp_path):
        process.kill()
        process.wait()
        before = len(will_file.paths(tmp_path))
        will_file.remove_old(tmp_path)
        assert len(will_file.paths(tmp_path)) == before == 2
        for path in will_file.paths(tmp_path):
            os.utime(path, (0, time.time() - will_file.OLD_S - 1))
        will_file.remove_old(tmp_path)
        assert len(will_file.paths(tmp_path)) == 1, "the living one's is kept however old it is"

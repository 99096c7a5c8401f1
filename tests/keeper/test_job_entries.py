"""Records of jobs that wait, as whoever reads the topic finds them."""

from __future__ import annotations

from logqueue_consumers.keeper.job_entries import KEY, RANK, read_entry


def test_what_no_worker_has_written_is_no_job() -> None:
    assert read_entry(b"job/g/q/j", b"{}", [(KEY, b"acme"), (RANK, b"3")]) is not None
    for rank in (None, b"", b"high"):
        assert read_entry(b"job/g/q/j", b"{}", [(RANK, rank)]) is None  # type: ignore[list-item]
    assert read_entry(b"job/g/q", b"{}", []) is None

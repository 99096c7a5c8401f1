"""kcat, unmodified, against the embedded broker."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.conftest import missing

WAIT_SECONDS = 30


@pytest.fixture(autouse=True)
def _kcat_present() -> None:
    if shutil.which("kcat") is None:
        missing("kcat is not installed")


def kcat(bootstrap: str, *arguments: str, stdin: str = "") -> str:
    """Run kcat and give what it prints."""
    done = subprocess.run(
        ["kcat", "-b", bootstrap, *arguments], input=stdin, capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_headers_and_values_come_back_in_every_compression(bootstrap: str, prefix: str, codec: str) -> None:
    kcat(bootstrap, "-P", "-t", prefix, "-z", codec, "-K", ":", "-H", "a=1", "-H", "b=2", stdin="k1:v1\nk2:v2\n")
    lines = kcat(bootstrap, "-C", "-t", prefix, "-e", "-q", "-J").splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["key"], r["payload"], r["headers"]) for r in records] == [
        ("k1", "v1", ["a", "1", "b", "2"]),
        ("k2", "v2", ["a", "1", "b", "2"]),
    ]


def test_a_group_resumes_where_it_stopped(bootstrap: str, prefix: str) -> None:
    kcat(bootstrap, "-P", "-t", prefix, stdin="1\n2\n3\n")
    earliest = ("-q", "-X", "auto.offset.reset=earliest")
    assert kcat(bootstrap, "-G", prefix, *earliest, "-c", "2", prefix).split() == ["1", "2"]
    assert kcat(bootstrap, "-G", prefix, *earliest, "-c", "1", prefix).split() == ["3"]


def test_offsets_are_found_by_time_and_metadata_names_the_topic(bootstrap: str, prefix: str) -> None:
    kcat(bootstrap, "-P", "-t", prefix, stdin="1\n2\n")
    assert "offset 0" in kcat(bootstrap, "-Q", "-t", f"{prefix}:0:1")
    topics = json.loads(kcat(bootstrap, "-L", "-J", "-t", prefix))["topics"]
    assert [(topic["topic"], len(topic["partitions"])) for topic in topics] == [(prefix, 1)]


def test_a_range_of_offsets_is_read(bootstrap: str, prefix: str) -> None:
    kcat(bootstrap, "-P", "-t", prefix, stdin="".join(f"{i}\n" for i in range(10)))
    assert kcat(bootstrap, "-C", "-t", prefix, "-p", "0", "-o", "4", "-c", "3", "-q").split() == ["4", "5", "6"]
    assert kcat(bootstrap, "-C", "-t", prefix, "-p", "0", "-o", "-2", "-e", "-q").split() == ["8", "9"]


def test_an_idempotent_producer_is_served(bootstrap: str, prefix: str) -> None:
    kcat(bootstrap, "-P", "-t", prefix, "-X", "enable.idempotence=true", stdin="1\n2\n")
    assert kcat(bootstrap, "-C", "-t", prefix, "-e", "-q").split() == ["1", "2"]

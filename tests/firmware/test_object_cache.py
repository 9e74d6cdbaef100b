# SPDX-License-Identifier: GPL-2.0-only
"""firmware/object_cache.py: it helps or it is not there, but never lies and never raises."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import object_cache
from firmware.object_cache import directory, load, store


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "numalab" / "objects"


def test_what_was_stored_is_loaded(folder: Path) -> None:
    assert load("k") is None
    store("k", b"payload")
    assert load("k") == b"payload"
    assert os.listdir(folder) == ["k"]


def test_a_file_under_another_key_is_not_believed(folder: Path) -> None:
    store("k", b"payload")
    (folder / "k").rename(folder / "other")
    assert load("other") is None


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_file_altered_anywhere_is_not_believed(data: st.DataObject) -> None:
    store("k", b"payload")
    base = directory()
    assert base is not None
    content = bytearray((base / "k").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (base / "k").write_bytes(content)
    assert load("k") is None
    store("k", b"payload")
    assert load("k") == b"payload"


@pytest.mark.parametrize("trouble", ["file in the way", "directory under the key"])
def test_a_cache_that_cannot_be_used_is_as_good_as_none(trouble: str, folder: Path) -> None:
    if trouble == "file in the way":
        folder.parent.write_bytes(b"")
    else:
        (folder / "k").mkdir(parents=True)
    store("k", b"payload")
    assert load("k") is None
    if trouble != "file in the way":
        assert os.listdir(folder) == ["k"], "no temporary file stays"


def test_a_relative_cache_home_is_ignored_as_the_xdg_specification_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directory() == tmp_path / ".cache" / "numalab" / "objects"
    monkeypatch.setenv("HOME", "also-relative")
    assert directory() is None
    store("k", b"payload")
    assert load("k") is None


def test_the_files_written_longest_ago_go_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_cache, "MAX_FILES", 8)
    for number in range(9):
        store(f"k{number}", b"x")
        if number < 8:
            os.utime(folder / f"k{number}", (number, number))
    assert sorted(os.listdir(folder)) == ["k3", "k4", "k5", "k6", "k7", "k8"]


def test_large_results_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_cache, "MAX_BYTES", 4)
    store("k", b"12345")
    assert load("k") is None

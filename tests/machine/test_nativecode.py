# SPDX-License-Identifier: GPL-2.0-only
"""Native routines are made once, kept, and never trusted blindly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unicorn.unicorn_py3.unicorn import uclib

from machine import nativecode
from machine.nativecode import Layout, Made
from machine.nativeir import FUNCTIONS

pytestmark = pytest.mark.skipif(
    nativecode.load() is None, reason="this host has no native routines"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory, and a process that has loaded nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    nativecode.load.cache_clear()
    yield tmp_path / "numalab"
    nativecode.load.cache_clear()


@pytest.fixture
def made() -> Made:
    return Made(b"\xc3" * 8, dict.fromkeys(FUNCTIONS, 0), Layout(192, 440, 24))


def child(monkeypatch: pytest.MonkeyPatch, made: Made | None) -> list[int]:
    """Let the child process be one that makes `made`; the list grows with every start."""
    starts: list[int] = []

    def start() -> Made | None:
        starts.append(1)
        return made

    monkeypatch.setattr(nativecode, "_from_child", start)
    return starts


def test_the_child_is_asked_once_and_the_file_is_the_users_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    starts = child(monkeypatch, made)
    first = nativecode.load()
    nativecode.load.cache_clear()
    second = nativecode.load()
    assert first is not None
    assert second is not None
    assert (len(starts), second.layout) == (1, made.layout)
    assert [path.suffix for path in cache.iterdir()] == [".json"]
    assert cache.stat().st_mode & 0o077 == 0


def test_what_the_real_child_makes_can_be_used(cache: Path) -> None:
    native = nativecode.load()
    assert native is not None
    assert set(native.routines) == set(FUNCTIONS)
    assert native.layout.tb_head > 0


@pytest.mark.parametrize("damage", ["", "{}", "[]", "null", "cut", "byte"])
def test_a_damaged_file_is_made_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, made: Made, damage: str
) -> None:
    starts = child(monkeypatch, made)
    nativecode.load()
    (path,) = cache.iterdir()
    text = path.read_text()
    path.write_text({"cut": text[:-3], "byte": text.replace("c3c3", "c3cc")}.get(damage, damage))
    nativecode.load.cache_clear()
    assert nativecode.load() is not None
    assert len(starts) == 2
    assert path.read_text() == text


def test_a_directory_that_others_can_write_to_is_not_trusted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    starts = child(monkeypatch, made)
    nativecode.load()
    cache.chmod(0o777)
    nativecode.load.cache_clear()
    nativecode.load()
    assert len(starts) == 2


def test_a_unicorn_that_cannot_be_counted_on_is_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    starts = child(monkeypatch, Made(made.code, made.functions, None))
    assert nativecode.load() is None
    nativecode.load.cache_clear()
    assert nativecode.load() is None
    assert len(starts) == 1


def test_a_child_that_fails_leaves_nothing_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = child(monkeypatch, None)
    assert nativecode.load() is None
    assert not cache.exists()
    nativecode.load.cache_clear()
    nativecode.load()
    assert len(starts) == 2


@pytest.mark.parametrize(
    "outcome",
    [
        subprocess.CompletedProcess([], 0, b"garbage"),
        subprocess.CompletedProcess([], 0, b"\xff"),
        subprocess.CalledProcessError(-11, []),
        subprocess.TimeoutExpired([], 1),
        OSError("no more processes"),
    ],
    ids=str,
)
def test_whatever_becomes_of_the_child_is_no_error(
    monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    def run(*_args: object, **_kwargs: object) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    assert nativecode._from_child() is None


def test_another_library_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    known = nativecode._key()
    real = os.stat(uclib._name)
    later = os.stat_result((*real[:6], real.st_size + 1, *real[7:10]))
    monkeypatch.setattr(os, "stat", lambda *_a, **_k: later)
    assert nativecode._key() != known


def test_mapped_code_can_be_executed_and_not_written() -> None:
    import ctypes

    address = nativecode.map_code(bytes.fromhex("488d47 01 c3"))  # lea rax, [rdi + 1]; ret
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)
    assert function(41) == 42
    rights = [
        line.split()[1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if int(line.split("-")[0], 16) <= address < int(line.split("-")[1].split()[0], 16)
    ]
    assert rights == ["r-xp"]

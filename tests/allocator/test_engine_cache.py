# SPDX-License-Identifier: GPL-2.0-only
"""allocator/engine_cache.py: compiled code is found whole, or not at all."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

from allocator import engine_cache
from allocator.engine import compiled_available, hot_functions
from allocator.engine_cache import (
    KEPT,
    cache_directories,
    digest,
    find,
    locked,
    object_code,
    partition,
    store,
    told_progress,
    trusted,
    writable_directory,
)
from machine import BringUpError, OutputError

CODE = b"\x7fELF machine code\n\0\n"
needs_numba = pytest.mark.skipif(not compiled_available(), reason="numba is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of this test alone: the user's, and one in the system's temporary directory."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(engine_cache.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    return tmp_path


def test_stored_code_is_found_again_byte_for_byte() -> None:
    store(writable_directory(), "hot-1.o", CODE)
    assert find("hot-1.o") == CODE
    assert find("hot-2.o") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_cache_file_is_not_found(damage: str) -> None:
    directory = writable_directory()
    store(directory, "hot-1.o", CODE)
    path = directory / "hot-1.o"
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-1],
            "flip": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
            "empty": b"",
            "other": b"numalab hot path \n" + CODE,
        }[damage]
    )
    assert find("hot-1.o") is None


def test_directory_that_cannot_be_made_gives_way_to_one_for_temporary_files(cache: Path) -> None:
    (cache / "home").write_text("a file where the directory should be")
    assert writable_directory() == cache / "tmp" / f"numalab-{os.getuid()}"
    store(writable_directory(), "hot-1.o", CODE)
    assert find("hot-1.o") == CODE


def test_nowhere_to_write_is_an_output_error(cache: Path) -> None:
    (cache / "home").write_text("")
    (cache / "tmp" / f"numalab-{os.getuid()}").write_text("")
    with pytest.raises(OutputError, match="kept neither in"):
        writable_directory()


def test_code_in_a_directory_that_others_may_write_is_not_trusted(cache: Path) -> None:
    directory = writable_directory()
    store(directory, "hot-1.o", CODE)
    directory.chmod(0o777)
    assert not trusted(directory)
    assert find("hot-1.o") is None
    (cache / "link").symlink_to(cache / "tmp")
    assert not trusted(cache / "link")
    assert not trusted(cache / "missing")


def test_only_the_newest_versions_are_kept() -> None:
    directory = writable_directory()
    for i in range(KEPT + 3):
        store(directory, f"hot-{i}.o", CODE)
        os.utime(directory / f"hot-{i}.o", (i, i))
    store(directory, "hot-last.o", CODE)
    assert len(list(directory.glob("hot-*.o"))) == KEPT
    assert find("hot-last.o") == CODE
    assert find("hot-0.o") is None


def test_no_file_is_left_behind_when_writing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = writable_directory()

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(engine_cache.os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        store(directory, "hot-1.o", CODE)
    assert list(directory.iterdir()) == []


@needs_numba
def test_processes_that_want_it_at_once_make_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def build(functions: object, progress: object) -> bytes:
        made.append(1)
        time.sleep(0.2)
        return CODE

    monkeypatch.setattr(engine_cache, "build", build)
    answers: list[bytes] = []
    wanting = [
        threading.Thread(target=lambda: answers.append(object_code(hot_functions())))
        for _ in range(4)
    ]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join()
    assert answers == [CODE] * 4
    assert len(made) == 1


@needs_numba
def test_digest_changes_with_versions_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    assert before == digest()
    monkeypatch.setattr(engine_cache, "version", lambda name: "0")
    other = digest()
    monkeypatch.setattr(engine_cache, "host_cpu", lambda: ("i486", ""))
    assert len({before, other, digest()}) == 3


@needs_numba
def test_source_that_does_not_compile_is_a_bring_up_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "reachable", lambda functions, names: ["no_such_function"])
    monkeypatch.setattr(engine_cache, "partition", lambda functions, names: [names])
    with pytest.raises(BringUpError, match=r"does not compile \(numba .*no_such_function"):
        engine_cache.build(hot_functions(), lambda done, total: None)


def test_partition_has_every_function_once_and_is_even() -> None:
    hot = hot_functions()
    parts = partition(hot, list(hot))
    assert sorted(name for part in parts for name in part) == sorted(hot)
    sizes = [sum(len(hot[name].__code__.co_code) for name in part) for part in parts]
    assert max(sizes) < 1.2 * min(sizes)


def test_progress_off_a_terminal_is_one_line() -> None:
    stream = io.StringIO()
    with told_progress(stream) as progress:
        progress(1, 2)
    assert stream.getvalue() == "numalab: compiling the allocator, once for this version...\n"


def test_lock_keeps_the_second_out_until_the_first_is_done() -> None:
    directory = writable_directory()
    order = []

    def second() -> None:
        with locked(directory):
            order.append("second")

    with locked(directory):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_user_directory_comes_before_the_temporary_one(cache: Path) -> None:
    assert [path.parent.name for path in cache_directories()] == ["home", "tmp"]

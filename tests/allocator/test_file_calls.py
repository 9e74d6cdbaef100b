# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls of files: Linux's answers to processes, whatever they ask."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.file_calls import FILE_CALLS, O_CREAT, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY
from tests.allocator.test_hypercall import HOLE, SCRATCH, Caller, boot

NAME, BUFFER = SCRATCH, SCRATCH + 0x1000


@pytest.fixture
def call() -> Caller:
    """A caller that has a name ready."""
    made = boot("2x64M")
    made.machine.memory.write(NAME, b"notes")
    return made


def opened(call: Caller, flags: int = O_CREAT | O_RDWR) -> int:
    """A file that is open."""
    fd, error = call("OPEN", NAME, 5, flags)
    assert error == 0
    return fd


def test_a_file_is_written_and_read_back(call: Caller) -> None:
    fd = opened(call)
    call.machine.memory.write(BUFFER, b"some bytes")
    assert call("WRITE", fd, BUFFER, 10, -1) == (10, 0)
    assert call("WRITE", fd, BUFFER, 4, -1) == (4, 0), "behind the first"
    assert call("FSIZE", fd) == (14, 0)
    assert call("READ", fd, BUFFER + 100, 99, 5) == (9, 0)
    assert call.machine.memory.read(BUFFER + 100, 9) == b"bytessome"
    assert call("READ", fd, BUFFER + 100, 99, -1) == (0, 0), "at the end of the file"
    assert call("FTRUNCATE", fd, 3) == (0, 0)
    assert call("FSYNC", fd) == call("SYNC") == (0, 0)
    assert call("CLOSE", fd) == (0, 0)
    assert call("UNLINK", NAME, 5) == (0, 0)


def test_buffers_of_a_process_are_faulted_in(call: Caller) -> None:
    fd = opened(call)
    start, error = call("MMAP", 0, 0x5000, 3, 0x22, -1, 0)
    assert error == 0
    assert call("WRITE", fd, start + 100, 9000, 0) == (9000, 0)
    assert call("READ", fd, start + 0x4F00, 5000, 0) == (0x100, 0), "as far as the area goes"
    assert call("READ", fd, start + 0x5000, 10, 0) == (0, errno.EFAULT)
    assert call("WRITE", fd, start + 0x6000, 10, 0) == (0, errno.EFAULT)


def test_a_processs_numbers_are_its_own_and_few(call: Caller) -> None:
    assert [opened(call) for _ in range(16)] == list(range(16))
    assert call("OPEN", NAME, 5, O_RDWR) == (0, errno.EMFILE)
    call("CLOSE", 7)
    assert opened(call) == 7


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (O_CREAT | O_EXCL | O_RDWR, errno.EEXIST),
        (3, errno.EINVAL),
        (1 << 20, errno.EINVAL),
        (O_RDWR, 0),
    ],
)
def test_opening_what_is_there(call: Caller, flags: int, said: int) -> None:
    call("CLOSE", opened(call))
    assert call("OPEN", NAME, 5, flags)[1] == said


def test_opening_can_empty_a_file_but_only_to_write(call: Caller) -> None:
    fd = opened(call)
    call("WRITE", fd, BUFFER, 10, 0)
    reader = opened(call, O_TRUNC)
    assert call("FSIZE", reader) == (10, 0)
    opened(call, O_TRUNC | O_WRONLY)
    assert call("FSIZE", fd) == (0, 0)


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("OPEN", (NAME, 5, O_RDWR), errno.ENOENT),
        ("OPEN", (NAME, 0, O_CREAT), errno.EINVAL),
        ("OPEN", (NAME, 56, O_CREAT), errno.EINVAL),
        ("OPEN", (HOLE, 5, O_CREAT), errno.EFAULT),
        ("OPEN", (-5, 5, O_CREAT), errno.EFAULT),
        ("READ", (5, BUFFER, 10, 0), errno.EBADF),
        ("READ", (-1, BUFFER, 10, 0), errno.EBADF),
        ("WRITE", (99, BUFFER, 10, 0), errno.EBADF),
        ("FSYNC", (3,), errno.EBADF),
        ("FTRUNCATE", (3, 10), errno.EBADF),
        ("CLOSE", (16,), errno.EBADF),
        ("FSIZE", (1 << 40,), errno.EBADF),
        ("UNLINK", (NAME, 5), errno.ENOENT),
    ],
)
def test_what_makes_no_sense_is_refused(
    call: Caller, name: str, args: tuple[int, ...], said: int
) -> None:
    assert call(name, *args) == (0, said)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((BUFFER, -1, 0), errno.EINVAL),
        ((BUFFER, 10, -2), errno.EINVAL),
        ((HOLE, 10, 0), errno.EFAULT),
        ((BUFFER, 10, 1 << 50), errno.EFBIG),
        ((BUFFER, 10, 1 << 39), errno.ENOSPC),
    ],
)
def test_impossible_transfers_are_refused(
    call: Caller, args: tuple[int, int, int], said: int
) -> None:
    fd = opened(call)
    assert call("WRITE", fd, *args) == (0, said)
    assert call("FSIZE", fd) == (0, 0)


def test_the_way_a_file_was_opened_counts(call: Caller) -> None:
    fd = opened(call, O_CREAT)
    assert call("WRITE", fd, BUFFER, 1, 0) == (0, errno.EBADF)
    assert call("FTRUNCATE", fd, 1) == (0, errno.EINVAL)
    writer = opened(call, O_WRONLY)
    assert call("READ", writer, BUFFER, 1, 0) == (0, errno.EBADF)


def test_a_fork_shares_open_files(call: Caller) -> None:
    fd = opened(call)
    assert call("FORK")[1] == 0
    assert call("CLOSE", fd) == (0, 0)
    assert call("UNLINK", NAME, 5) == (0, 0), "though the child has it open"
    assert call("UNLINK", NAME, 5) == (0, errno.ENOENT)


words = st.one_of(st.integers(-5, 20), st.sampled_from([NAME, BUFFER, HOLE, 1 << 39, -(1 << 63)]))


@pytest.fixture(scope="module")
def sturdy() -> Caller:
    """One for all requests."""
    made = boot("1x64M")
    made.machine.memory.write(NAME, b"notes")
    return made


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(FILE_CALLS)), args=st.tuples(words, words, words, words))
def test_no_request_stops_the_machine(
    sturdy: Caller, name: str, args: tuple[int, int, int, int]
) -> None:
    sturdy(name, *args)
    assert sturdy.machine._pending is None

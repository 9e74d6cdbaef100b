# SPDX-License-Identifier: GPL-2.0-only
"""The Process object: arguments, reports, errors."""

from __future__ import annotations

import errno

import pytest

from allocator.errors import BadRequest, SystemCallError
from allocator.kernel import Kernel

from .processes import PAGE, process, refused, sound


def test_what_no_call_can_mean_is_refused_in_words() -> None:
    proc = process()
    for call in (
        lambda: proc.mmap(PAGE, "rq"),
        lambda: proc.madvise(0, PAGE, "please"),
        lambda: proc.set_mempolicy("somewhere"),
        lambda: proc.mbind(0, PAGE, "somewhere"),
        lambda: proc.read(0, -1),
        lambda: proc.mmap(1 << 70),
        lambda: proc.munmap(-(1 << 70), PAGE),
    ):
        with pytest.raises(BadRequest):
            call()
    assert proc.alive


def test_a_refusal_names_call_errno_and_meaning() -> None:
    proc = process()
    with pytest.raises(SystemCallError, match=r"munmap: EINVAL \(Invalid argument\)") as refusal:
        proc.munmap(1, 1)
    assert refusal.value.errno == errno.EINVAL
    assert refusal.value.exit_code == 64


def test_maps_read_as_proc_pid_maps() -> None:
    proc = process()
    proc.mmap(2 * PAGE, "r", address=1 << 40, fixed=True)
    proc.mmap(PAGE, "rwx", address=(1 << 40) + 8 * PAGE, fixed=True)
    assert proc.maps == (
        "10000000000-10000002000 r--p 00000000\n10000008000-10000009000 rwxp 00000000\n"
    )


def test_bytes_cross_page_borders_both_ways() -> None:
    proc = process()
    start = proc.mmap(3 * PAGE)
    data = bytes(range(256)) * 40
    proc.write(start + 100, data)
    assert proc.read(start + 100, len(data)) == data
    assert proc.read(start + 99, 1) == b"\0"
    assert proc.read(start, 0) == b""


def test_pages_move_between_nodes_and_tell_where_they_are() -> None:
    proc = process("2x64M")
    start = proc.mmap(4 * PAGE)
    proc.write(start, b"m" * 3 * PAGE)
    pages = [start + n * PAGE for n in range(4)]
    assert proc.move_pages(pages) == [0, 0, 0, -errno.EFAULT]
    assert proc.move_pages(pages, [1, 0, 1, 1])[:3] == [1, 0, 1]
    assert proc.read(start + 2 * PAGE, 2) == b"mm"
    refused(lambda: proc.move_pages(pages, [9] * 4), "ENODEV")
    sound(proc.kernel)


def test_bound_memory_comes_from_its_node() -> None:
    proc = process("2x64M")
    start = proc.mmap(8 * PAGE)
    proc.mbind(start, 4 * PAGE, "bind", [1])
    proc.touch(start, 8 * PAGE)
    nodes = []
    for n in range(8):
        page = proc.page(start + n * PAGE)
        assert page is not None
        nodes.append(page.nid)
    assert nodes == [1, 1, 1, 1, 0, 0, 0, 0]
    refused(lambda: proc.mbind(start, PAGE, "bind", [7]), "EINVAL")


def test_oom_score_adj_is_kept_between_its_limits() -> None:
    proc = process()
    proc.oom_score_adj = -1000
    assert proc.fork().oom_score_adj == proc.oom_score_adj == -1000
    with pytest.raises(SystemCallError):
        proc.oom_score_adj = 1001


def test_another_kernel_object_over_the_same_ram_goes_on_with_the_process() -> None:
    proc = process()
    start = proc.mmap(PAGE)
    proc.write(start, b"persistent")
    kernel = Kernel.attach(proc.kernel.memory)
    again = kernel.process(proc.pid)
    assert again.read(start, 10) == b"persistent"
    assert again.name == "test"
    again.exit()
    assert not proc.alive

# SPDX-License-Identifier: GPL-2.0-only
"""Files when memory is short or allocations fail: no byte and no frame is lost."""

from __future__ import annotations

import random

import pytest

from allocator.check import check_frames
from allocator.errors import OutOfMemory, ProcessKilled, SystemCallError
from allocator.inspect import inspect
from allocator.kernel import Kernel
from allocator.kernel_files import File
from allocator.process import Process
from allocator.slab import slab_caches
from allocator.slab_common import kmem_cache_shrink
from tests.allocator.machines import boot

PAGE = 4096


def vmstat(kernel: Kernel) -> dict[str, int]:
    """/proc/vmstat by name, deltas folded."""
    for cpu in range(kernel.nr_cpus):
        kernel.fold_vm_stats(cpu)
    lines = inspect(kernel.memory, "vmstat").text.splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def sound(kernel: Kernel) -> None:
    """Every frame is in one legal state."""
    report = check_frames(kernel.memory)
    assert report.sound, str(report)


def test_a_file_of_twice_the_memory_is_written_and_read_back() -> None:
    kernel = boot("1x32M")
    rng = random.Random(1)
    file = kernel.create_file("big")
    pieces = [rng.randbytes(64) * 512 for _ in range(1500)]
    for i, piece in enumerate(pieces):
        assert file.write(piece, i * len(piece)) == len(piece)
    sound(kernel)
    for i in (*range(0, 1500, 7), *range(1499, 1400, -1)):
        assert file.read(32768, i * 32768) == pieces[i]
    sound(kernel)
    counters = vmstat(kernel)
    assert counters["oom_kill"] == 0
    assert counters["pgsteal_kswapd"] + counters["pgsteal_direct"] > 5000
    assert counters["workingset_refault"] > 0
    assert counters["nr_dirty"] * 5 < 8192, "writers waited when a fifth was dirty"
    file.close()
    kernel.unlink("big")
    assert vmstat(kernel)["nr_file_pages"] == 0


def test_processes_that_map_more_than_memory_share_every_word_with_the_file() -> None:
    kernel = boot("2x32M")
    rng = random.Random(2)
    pages = 14_000
    file = kernel.create_file("big", pages * PAGE)
    processes = [kernel.create_process(f"p{cpu}", cpu) for cpu in range(2)]
    starts = [process.mmap(pages * PAGE, file=file, shared=True) for process in processes]
    model: dict[int, int] = {}
    for step in range(1200):
        at = rng.randrange(pages if rng.random() < 0.7 else 100) * PAGE + 8 * rng.randrange(512)
        who, what, value = rng.randrange(2), rng.random(), rng.getrandbits(63)
        if what < 0.4:
            processes[who].write(starts[who] + at, value.to_bytes(8, "little"))
            model[at] = value
        elif what < 0.5:
            file.write(value.to_bytes(8, "little"), at)
            model[at] = value
        elif what < 0.75:
            at = rng.choice(list(model)) if model else at
            raw = processes[who].read(starts[who] + at, 8)
            assert int.from_bytes(raw, "little") == model.get(at, 0)
        elif what < 0.97:
            first = min(at // PAGE, pages - 160)
            processes[who].touch(starts[who] + first * PAGE, 160 * PAGE, write=False)
        else:
            file.fsync()
        if step % 400 == 399:
            sound(kernel)
    for at, value in model.items():
        assert int.from_bytes(file.read(8, at), "little") == value
    counters = vmstat(kernel)
    assert counters["oom_kill"] == 0
    assert counters["nr_mapped"] > 0


def settled(kernel: Kernel) -> int:
    """Free pages once everything that lies ready for reuse has been given back."""
    kernel.sync()
    for _ in range(4):
        kernel.drop_caches(3)
    for cache in list(slab_caches(kernel.m)):
        kmem_cache_shrink(kernel.m, 0, cache)
    kernel.drain_all_pages()
    for cpu in range(kernel.nr_cpus):
        kernel.fold_vm_stats(cpu)
    return kernel.nr_free_pages


@pytest.mark.parametrize("seed", range(2))
def test_failing_allocations_cost_calls_but_no_frame(seed: int) -> None:
    """A third of all allocations fail: calls are refused or cut short, and nothing is lost."""
    kernel, rng = boot("2x32M"), random.Random(seed)
    kernel.create_file("first", data=b"x").close()
    kernel.unlink("first")
    first = kernel.create_process("first")
    first.touch(first.mmap(2 * PAGE), 2 * PAGE)
    first.exit()
    baseline = settled(kernel)
    kernel.fail_page_alloc(probability=33)
    files: dict[str, File] = {}
    processes: list[Process] = []
    refused = 0
    for step in range(1000):
        what = rng.random()
        file = rng.choice(list(files.values())) if files else None
        processes = [process for process in processes if process.alive]
        try:
            if what < 0.15 and len(files) < 6:
                files[f"f{step}"] = kernel.create_file(f"f{step}")
            elif what < 0.45 and file:
                file.write(bytes(rng.choice((10, 5000, 50_000))), rng.randrange(300_000))
            elif what < 0.65 and file:
                file.read(rng.choice((10, 50_000)), rng.randrange(300_000))
            elif what < 0.7 and file:
                file.truncate(rng.randrange(300_000))
            elif what < 0.75:
                kernel.drop_caches(rng.choice((1, 2, 3)))
            elif what < 0.8 and len(processes) < 4:
                processes.append(kernel.create_process("p"))
            elif what < 0.9 and processes and file and file.size:
                process = rng.choice(processes)
                start = process.mmap(file.size, file=file, shared=rng.random() < 0.5)
                process.touch(start, file.size, write=rng.random() < 0.5)
            elif what < 0.95 and processes:
                processes.pop().exit()
            elif file:
                file.close()
                del files[file.name]
                kernel.unlink(file.name)
        except (SystemCallError, ProcessKilled, OutOfMemory):
            refused += 1
    assert refused > 20
    sound(kernel)
    kernel.fail_page_alloc(probability=0)
    for process in processes:
        if process.alive:
            process.exit()
    for file in files.values():
        file.close()
    for name in kernel.files:
        kernel.unlink(name)
    assert settled(kernel) == baseline

# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.resume import resume, resume_kernel
from allocator.scripts import SCRIPTS
from machine import BringUpError, Machine, Topology
from machine.pagecodec import used_pages
from machine.snapshot import load_snapshot, save_snapshot


def boot(script: str, numa: str = "2x64M", quantum: int = 500) -> Guest:
    return boot_image(Machine(Topology.parse(numa), quantum=quantum), SCRIPTS / script)


def half_way(script: str) -> Machine:
    """A machine in the middle of what the script does."""
    length = boot(script).machine.run().instructions
    machine = boot(script).machine
    assert machine.run(max_instructions=length // 2).kind == "budget"
    return machine


def everything(machine: Machine) -> tuple[Any, ...]:
    ram = [(frames.tolist(), pages.tobytes()) for frames, pages in used_pages(machine.memory)]
    return machine.save(), ram


@pytest.mark.parametrize(
    ("script", "numa"),
    [
        ("smp.S", "2x64M"),
        ("smp.S", "1x64M,cpus=4"),
        ("exhaust.S", "2x32M"),
        ("first_light.S", "2x64M"),
    ],
)
def test_a_resumed_guest_leaves_the_same_bytes_as_one_that_never_stopped(
    tmp_path: Path, script: str, numa: str
) -> None:
    whole = boot(script, numa).machine
    end = whole.run()
    expected = everything(whole)
    path = tmp_path / "m.snap"
    machine = boot(script, numa).machine
    for part in (1, 3, 2, 5):
        stop = machine.run(max_instructions=max(end.instructions * part // 13, 1))
        if stop.kind != "budget":
            break
        save_snapshot(machine, path)
        machine = load_snapshot(path)
        resume(machine)
    else:
        stop = machine.run()
    assert (stop.kind, stop.code, stop.rip) == (end.kind, end.code, end.rip)
    assert everything(machine) == expected


def test_resuming_changes_no_byte_and_no_clock(tmp_path: Path) -> None:
    machine = half_way("smp.S")
    save_snapshot(machine, tmp_path / "m.snap")
    loaded = load_snapshot(tmp_path / "m.snap")
    before = everything(loaded)
    resume(loaded)
    assert everything(loaded) == before == everything(machine)


def test_the_kernel_of_a_resumed_machine_allocates_on_as_the_old_one_would(tmp_path: Path) -> None:
    machine = boot("first_light.S").machine
    machine.run()
    save_snapshot(machine, tmp_path / "m.snap")
    old, new = resume_kernel(machine), resume_kernel(load_snapshot(tmp_path / "m.snap"))
    for order in (0, 0, 3, 9, 1, 10, 0):
        one, other = (
            kernel.alloc_pages("GFP_KERNEL", order, nid=order & 1) for kernel in (old, new)
        )
        assert one is not None
        assert other is not None
        assert one.pfn == other.pfn
    assert new.machine is not None
    assert everything(machine) == everything(new.machine)


def test_a_kernel_taken_back_to_a_checkpoint_gives_the_same_pages_again() -> None:
    machine = boot("first_light.S").machine
    kernel = resume_kernel(machine)
    before = everything(machine)
    moment = machine.checkpoint()
    runs = []
    for _ in range(3):
        pages = kernel.exhaust(nid=1)
        runs.append([page.pfn for page in pages])
        moment.rewind()
        assert everything(machine) == before
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) > 10_000


def test_the_guest_runs_the_same_after_every_rewind() -> None:
    machine = half_way("smp.S")
    moment = machine.checkpoint()
    results = []
    for _ in range(3):
        stop = machine.run()
        results.append((stop, everything(machine)))
        moment.rewind()
    assert results[0] == results[1] == results[2]
    assert results[0][0].kind == "exit"


def test_a_machine_without_a_kernel_is_refused() -> None:
    with pytest.raises(BringUpError, match="no booted kernel"):
        resume(Machine(Topology.parse("2x64M")))

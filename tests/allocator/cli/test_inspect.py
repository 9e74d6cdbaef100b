# SPDX-License-Identifier: GPL-2.0-only
"""`numalab inspect`: what is looked at, in what, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from allocator.inspect import INSPECTORS
from machine.snapshot import save_snapshot
from tests.allocator.machines import boot

from .conftest import Numalab

Script = Callable[..., str]


def test_without_a_file_the_machine_only_boots(numalab: Numalab) -> None:
    result = numalab("inspect", "--numa", "2x64M", "buddyinfo")
    assert (result.code, result.err) == (0, "")
    assert [line[:24] for line in result.out.splitlines()] == [
        "Node 0, zone      DMA   ",
        "Node 0, zone    DMA32   ",
        "Node 1, zone    DMA32   ",
    ]


def test_a_script_runs_to_its_end_first_and_its_output_stays_away(
    numalab: Numalab, script: Script
) -> None:
    name = script("    hypercall HC_ALLOC_PAGES, GFP_KERNEL, 3, 0, 0\n    exit 0\n")
    before = numalab("inspect", "--numa", "2x64M", "vmstat").out
    result = numalab("inspect", name, "vmstat", "--numa", "2x64M")
    assert result.code == 0
    assert "pgalloc_dma32 0\n" in before
    assert "pgalloc_dma32 8\n" in result.out
    assert result.err == ""


def test_a_snapshot_is_looked_at_as_it_is(numalab: Numalab, tmp_path: Path) -> None:
    kernel = boot("2x64M")
    page = kernel.alloc_pages("GFP_KERNEL", 2, nid=1)
    assert page is not None
    assert kernel.machine is not None
    save_snapshot(kernel.machine, tmp_path / "full.snap")
    result = numalab("inspect", "full.snap", "kmem", f"pfn:{page.pfn}")
    assert result.code == 0
    assert result.out.startswith(f"frame {page.pfn:#x}  node 1  zone DMA32")
    again = numalab("inspect", "full.snap", "buddyinfo", "--append", "mem=32M")
    assert again.code == 64
    assert "is a snapshot: it has its own machine" in again.last


def test_a_damaged_snapshot_is_refused_for_what_it_is(numalab: Numalab, tmp_path: Path) -> None:
    (tmp_path / "bad.snap").write_bytes(b"numalab\x1a but not much more")
    assert numalab("inspect", "bad.snap", "buddyinfo").code == 65
    (tmp_path / "other.snap").write_bytes(b"PNG")
    assert numalab("inspect", "other.snap", "buddyinfo").code == 65


def test_options_may_stand_anywhere_and_crashs_own_are_left_alone(numalab: Numalab) -> None:
    verified = numalab("inspect", "kmem", "-f", "--numa", "1x64M")
    assert verified.code == 0
    assert verified.out.count("(verified)") == 2
    words = numalab("inspect", "rd", "-8", "0x1000000", "8", "--json", "--numa", "1x64M")
    assert json.loads(words.out)["values"] == list(b"numalab\0")
    found = numalab("inspect", "--numa", "1x64M", "search", "-c", "numalab")
    assert "kernel_globals" in found.out


def test_json_is_the_same_for_every_inspector(numalab: Numalab) -> None:
    for what, arguments in (("zoneinfo", ()), ("vmstat", ()), ("struct", ("zone", "0:DMA"))):
        result = numalab("inspect", "--numa", "1x64M", what, *arguments, "--json")
        assert result.code == 0
        assert json.loads(result.out)


def test_binary_files_go_to_standard_output_or_whole_into_a_file(
    numalab: Numalab, tmp_path: Path
) -> None:
    result = numalab("inspect", "--numa", "1x64M", "kpagecount", "-o", "counts")
    assert (result.code, result.out) == (0, "")
    assert len((tmp_path / "counts").read_bytes()) == 8 * 16352
    missing = numalab("inspect", "--numa", "1x64M", "kpageflags", "--output", "no/such/file")
    assert missing.code == 73
    assert "no/such/file" in missing.last


def test_what_contradicts_itself_is_exit_1(numalab: Numalab, script: Script) -> None:
    name = script(
        "    movabs rax, 0xffffea0000080028\n    mov rcx, 77\n    mov [rax], rcx\n    exit 0\n"
    )
    result = numalab("inspect", name, "kmem", "-f", "--numa", "1x64M")
    assert result.code == 1
    assert "kmem: zone 0:DMA32 free_area[10].free_list[Movable]: frame 0x2000 is not" in result.out


def test_a_script_that_faults_is_still_looked_at(numalab: Numalab, script: Script) -> None:
    result = numalab("inspect", script("    ud2\n"), "buddyinfo", "--numa", "1x64M")
    assert result.code == 0
    assert result.out.startswith("Node 0")
    assert "guest.S: " in result.err


def test_mistakes_cost_one_line_and_64_or_66(numalab: Numalab) -> None:
    for arguments, code in (
        (("inspect",), 64),
        (("inspect", "vmallocinfo"), 64),
        (("inspect", "first_light.S", "vmallocinfo"), 64),
        (("inspect", "buddyinfo", "1"), 64),
        (("inspect", "buddyinfo", "--numa"), 64),
        (("inspect", "numastat", "9"), 64),
        (("inspect", "nothing.S", "buddyinfo"), 66),
        (("inspect", "nothing.snap", "buddyinfo"), 66),
        (("inspect", "rd", "0x7fffffffffff"), 70),
        (("inspect", "rd", "zebra"), 64),
    ):
        result = numalab(*arguments)
        assert (result.code, result.err.count("\n")) == (code, 1), arguments
        assert result.out == ""


def test_the_help_lists_everything_that_can_be_inspected(
    numalab: Numalab, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        numalab("inspect", "--help")
    text = capfd.readouterr().out
    for name, inspector in INSPECTORS.items():
        assert f"\n  {name} " in text
        assert inspector.help in text

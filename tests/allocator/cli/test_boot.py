# SPDX-License-Identifier: GPL-2.0-only
"""`numalab boot`: what it prints where, what it exits with, and every kind of bad input."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Numalab

Script = Callable[..., str]
SMALL = ("--numa", "1x64M")


# --- a run that goes well -------------------------------------------------------------------------
def test_the_tours_first_example_prints_what_the_tour_says(numalab: Numalab) -> None:
    result = numalab("boot", "first_light.S", "--numa", "2x128M")
    assert result.code == 0
    lines = result.out.splitlines()
    assert len(lines) == 2
    for nid, line in enumerate(lines):
        assert line.startswith(f"node {nid}: frame 0x")
        assert line.endswith(f" wrote 0x4c49474854{nid:04x} read back ok")
    assert result.err.startswith("numalab: exit 0 after ")
    assert result.err.endswith(" instructions, 2 pages allocated, 2 freed\n")


def test_without_options_the_machine_has_two_nodes_of_128_mib(numalab: Numalab) -> None:
    result = numalab("boot", "e820.S")
    assert "[mem 0x0000000000100000-0x000000000ffdffff] usable" in result.out


def test_the_guests_exit_code_is_the_commands(numalab: Numalab, script: Script) -> None:
    assert numalab("boot", script("    exit 42"), *SMALL).code == 42
    debug_exit = script("    mov al, 3\n    out PORT_DEBUG_EXIT, al")
    assert numalab("boot", debug_exit, *SMALL).code == 7


def test_a_guest_that_halts_for_good_has_ended_well(numalab: Numalab, script: Script) -> None:
    result = numalab("boot", script("    halt"), *SMALL)
    assert result.code == 0
    assert result.last.startswith("numalab: halted after ")


def test_log_puts_the_kernels_log_on_stderr_and_nothing_on_stdout(
    numalab: Numalab, script: Script
) -> None:
    result = numalab("boot", script("    exit 0"), *SMALL, "--log")
    assert result.out == ""
    for text in ("BIOS-e820: [mem ", "Zone ranges:", "Built 1 zonelists", "Memory: "):
        assert text in result.err


def test_reports_of_the_allocator_appear_in_the_log(numalab: Numalab, script: Script) -> None:
    body = "    hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, 0, 0\n    mov rbx, rax\n"
    body += "    hypercall HC_FREE_PAGES, rbx, 0\n" * 2 + "    exit rdx"
    result = numalab("boot", script(body), *SMALL, "--log")
    assert result.code == 22
    assert "Bad page state" in result.err


def test_quiet_says_nothing_about_a_run_that_went_well(numalab: Numalab, script: Script) -> None:
    assert numalab("boot", script("    exit 3"), *SMALL, "--quiet").err == ""


def test_a_serial_port_is_a_console_too(numalab: Numalab, script: Script) -> None:
    body = "    mov dx, PORT_SERIAL\n    mov al, 'x'\n    out dx, al\n    exit 0"
    assert numalab("boot", script(body), *SMALL).out == "x"


def test_a_toml_file_describes_the_machine(
    numalab: Numalab, script: Script, tmp_path: Path
) -> None:
    (tmp_path / "m.toml").write_text('machine = "q35"\nnuma = "2x64M"\n')
    name = script("    info INFO_NR_NODES\n    mov rbx, rax\n    exit rbx")
    assert numalab("boot", name, "--machine", "m.toml").code == 2


def test_kernel_parameters_reach_the_kernel(numalab: Numalab, script: Script) -> None:
    name = script("    exit 0")
    result = numalab("boot", name, *SMALL, "--append", "kernelcore=50%", "--inspect", "zones")
    assert " Movable " in result.out


def test_two_runs_print_the_same(numalab: Numalab) -> None:
    runs = [numalab("boot", "smp.S", "--numa", "2x64M,cpus=2", "--log") for _ in range(2)]
    assert runs[0] == runs[1]


# --- guests that go wrong -------------------------------------------------------------------------
def test_a_fault_tells_where_what_why_and_the_registers(numalab: Numalab, script: Script) -> None:
    body = "    mov rbx, 0x1234567\nbang:\n    mov rax, [0x123456789000]"
    result = numalab("boot", script(body), *SMALL)
    assert result.code == 76
    assert "read of 0x123456789000: page not present" in result.last
    assert result.last.startswith("numalab: cpu 0 at rip 0x1000")
    assert "rbx 0000000001234567" in result.err
    assert "in bang+0x0" in result.err


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("    ud2", "#UD"),
        ("    xor ecx, ecx\n    div ecx", "#DE"),
        ("    lidt [rip + none]\n    int3\n    .data\nnone: .skip 10", "no handler"),
        ("    movabs rax, 0x8000000000000000\n    mov rax, [rax]", "non-canonical"),
        ("    mov rax, [0xd0000000]", "page not present"),
    ],
)
def test_every_kind_of_fault_is_one_line_and_76(
    numalab: Numalab, script: Script, body: str, what: str
) -> None:
    result = numalab("boot", script(body), *SMALL)
    assert result.code == 76
    assert what in result.last
    assert len([line for line in result.err.splitlines() if line.startswith("numalab:")]) == 1


def test_a_guest_that_spins_for_ever_spends_its_budget(numalab: Numalab, script: Script) -> None:
    name = script("here: jmp here")
    result = numalab("boot", name, *SMALL, "--max-instructions", "100,000")
    assert result.code == 75
    assert result.last.startswith("numalab: budget of 100,000 instructions spent at rip 0x1000")
    assert " on cpu 0" in result.last


def test_a_time_limit_ends_a_guest_that_spins(numalab: Numalab, script: Script) -> None:
    result = numalab("boot", script("here: pause\n    jmp here"), *SMALL, "--timeout", "0.2")
    assert result.code == 75
    assert result.last.startswith("numalab: time limit of 0.2 s spent at rip 0x1000")


def test_a_doorbell_rung_with_nonsense_answers_enosys(numalab: Numalab, script: Script) -> None:
    body = "    mov qword ptr [r15], 0x7fffffff\n    mov edx, PORT_DOORBELL\n"
    body += "    out dx, ax\n    mov rbx, [r15 + MAILBOX_ERRNO]\n    exit rbx"
    assert numalab("boot", script(body), *SMALL).code == 38


def test_a_guest_that_tears_the_free_lists_gets_a_fault_not_a_traceback(
    numalab: Numalab, script: Script
) -> None:
    body = """
    info    INFO_PGLIST_DATA, 0
    lea     rbx, [rax + SIZEOF_ZONE + ZONE_free_area]
    mov     ecx, MAX_ORDER
1:  mov     qword ptr [rbx], 0x1234
    mov     qword ptr [rbx + 16], 0x1234
    add     rbx, SIZEOF_FREE_AREA
    dec     ecx
    jnz     1b
    hypercall HC_ALLOC_PAGES, GFP_KERNEL, 3, 0, 0
    exit    0"""
    result = numalab("boot", script(body), *SMALL)
    assert result.code == 76
    assert "in hypercall ALLOC_PAGES: the allocator's structures are damaged" in result.last


def test_a_free_list_bent_into_a_ring_does_not_hang_the_host(
    numalab: Numalab, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocator.cli.run_loop.STUCK", 1)
    body = """
    hypercall HC_ALLOC_PAGES, GFP_KERNEL, 0, 0, 0
    mov     rbx, rax
    hypercall HC_FREE_PAGES, rbx, 0
    pfn_to_page rsi, rbx
    lea     rsi, [rsi + PAGE_lru]
    mov     [rsi], rsi                  # the page comes before and after itself
    mov     [rsi + 8], rsi
    info    INFO_PGLIST_DATA, 0
    mov     rdi, [rax + SIZEOF_ZONE + ZONE_pageset]
    mov     [rdi + PER_CPU_PAGESET_lists], rsi
    mov     [rdi + PER_CPU_PAGESET_lists + 8], rsi
    mov     rax, -1
    shr     rax, 2                      # and there are very many of it
    mov     [rdi + PER_CPU_PAGESET_count], rax
    hypercall HC_DRAIN_ALL_PAGES
    exit    0"""
    result = numalab("boot", script(body), *SMALL)
    assert result.code == 76
    assert "no end after 1 s" in result.last


# --- bad input ------------------------------------------------------------------------------------
BAD = [
    (["nosuch.S"], 66, "nosuch.S: No such file"),
    (["."], 66, "not a regular file"),
    (["first_light.S", "--numa", "0x64M"], 64, "0x64M"),
    (["first_light.S", "--numa", "2x1M"], 64, "at least 32 MiB"),
    (["first_light.S", "--numa", "2x8T"], 64, "at most 4 TiB"),
    (["first_light.S", "--numa", "1x100000001B"], 64, "not a whole number of pages"),
    (["first_light.S", "--numa", "node,nodeid=0,cpus=0,mem=64M,frob=1"], 64, "frob=1"),
    (
        ["first_light.S", *[w for _ in "ab" for w in ("--numa", "node,nodeid=0,cpus=0,mem=64M")]],
        64,
        "node 0 is described twice",
    ),
    (
        [
            "first_light.S",
            *("--numa", "node,cpus=0,mem=64M", "--numa", "node,mem=64M"),
            *("--numa", "dist,src=0,dst=1,val=3"),
        ],
        64,
        "distance 0 to 1 is 3",
    ),
    (["first_light.S", "--machine", "nosuch.toml"], 66, "nosuch.toml"),
    (["first_light.S", "--machine", "m.toml", "--numa", "1x64M"], 64, "--machine"),
    (["first_light.S", "--append", "x" * 3000], 64, "kernel parameters"),
    (["first_light.S", "--append", "a\nb"], 64, "kernel parameters"),
    (["first_light.S", "--append", "mem=2M"], 69, "memory"),
    (["first_light.S", "--max-instructions", "many"], 64, "'many'"),
    (["first_light.S", "--max-instructions", "-5"], 64, "-5"),
    (["first_light.S", "--timeout", "soon"], 64, "'soon'"),
    (["first_light.S", "--timeout", "nan"], 64, "'nan'"),
    (["first_light.S", "--quantum", "0"], 64, "0 is not between"),
    (["first_light.S", "--machine-type", "pdp11"], 64, "pdp11"),
    (["first_light.S", "--inspect", "entrails"], 64, "entrails"),
    (["first_light.S", "--frobnicate"], 64, "--frobnicate"),
    ([], 64, "SCRIPT"),
]


@pytest.mark.parametrize(("argv", "code", "culprit"), BAD)
def test_bad_input_costs_one_line_that_names_the_culprit(
    numalab: Numalab, argv: list[str], code: int, culprit: str
) -> None:
    result = numalab("boot", *argv)
    assert result.code == code
    assert result.err.count("\n") == 1
    assert result.err.startswith("numalab: ")
    assert culprit in result.err
    assert result.out == ""


def test_a_syntax_error_has_file_line_and_column(numalab: Numalab, tmp_path: Path) -> None:
    (tmp_path / "hello.S").write_text(".intel_syntax noprefix\n_start:\n    mvo rax, 1\n")
    result = numalab("boot", "hello.S")
    assert result.code == 65
    assert result.err.startswith("numalab: hello.S:3:5: invalid instruction mnemonic 'mvo'")


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (b"\x7fELF\x01\x01\x01", "ELF"),
        (b"\x7fELF\x02\x01\x01" + bytes(57), "ELF"),
        (b"just text", "not ELF"),
    ],
)
def test_what_is_no_executable_is_refused(
    numalab: Numalab, tmp_path: Path, content: bytes, culprit: str
) -> None:
    (tmp_path / "thing").write_bytes(content)
    result = numalab("boot", "thing")
    assert result.code == 65
    assert result.err.startswith("numalab: thing: ")
    assert culprit in result.err


def elf(machine: int, address: int) -> bytes:
    """An executable of one HLT at `address`."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 2, machine, 1, address, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 120, address, address, 1, 1, 1)
    return header + segment + b"\xf4"


def test_an_elf_executable_runs(numalab: Numalab, tmp_path: Path) -> None:
    (tmp_path / "halt.elf").write_bytes(elf(62, 0x200000))
    assert numalab("boot", "halt.elf", *SMALL).last.startswith("numalab: halted after 1 ")


@pytest.mark.parametrize(
    ("machine", "address", "culprit"),
    [
        (183, 0x200000, "AArch64|AARCH64|machine"),
        (62, 0x10_0000_0000, "usable RAM"),
        (62, 0, "BIOS"),
    ],
)
def test_an_elf_for_another_machine_or_outside_ram_is_65(
    numalab: Numalab, tmp_path: Path, machine: int, address: int, culprit: str
) -> None:
    (tmp_path / "odd.elf").write_bytes(elf(machine, address))
    result = numalab("boot", "odd.elf", *SMALL)
    assert result.code == 65
    assert result.err.startswith("numalab: odd.elf: ")
    assert result.err.count("\n") == 1
    assert re.search(culprit, result.err)


def test_an_unreadable_script_is_66(numalab: Numalab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.S")
    result = numalab("boot", "pipe.S")
    assert (result.code, result.err.count("\n")) == (66, 1)


def test_an_unknown_kernel_parameter_is_warned_about_and_the_run_goes_on(
    numalab: Numalab, script: Script
) -> None:
    name = script("    exit 5")
    result = numalab("boot", name, *SMALL, "--append", "frobnicate=1")
    assert result.code == 5
    assert result.err.splitlines()[0] == "numalab: kernel: unknown parameter 'frobnicate=1'"
    logged = numalab("boot", name, *SMALL, "--append", "frobnicate=1", "--log")
    assert "frobnicate=1" in "".join(ln for ln in logged.err.splitlines() if "nknown" in ln)


def test_a_malformed_kernel_parameter_is_warned_about(numalab: Numalab, script: Script) -> None:
    result = numalab("boot", script("    exit 0"), *SMALL, "--append", "kernelcore")
    assert result.code == 0
    assert "Malformed early option 'kernelcore'" in result.err


# --- inspection -----------------------------------------------------------------------------------
def test_inspections_are_printed_after_the_run_in_the_order_asked(
    numalab: Numalab, script: Script
) -> None:
    name = script('    print "first\\n"\n    exit 0')
    result = numalab("boot", name, "--numa", "2x64M", "--inspect", "slit", "--inspect", "e820")
    lines = result.out.splitlines()
    assert lines[0] == "first"
    assert lines[1].split() == ["from\\to", "0", "1"]
    assert lines[4].startswith("BIOS-e820: [mem 0x0000000000000000")


def test_what_cannot_be_inspected_is_complained_about_and_the_outcome_still_told(
    numalab: Numalab, script: Script
) -> None:
    result = numalab(
        "boot",
        script("    exit 0"),
        *SMALL,
        "--inspect",
        "hexdump:0xc0000000,8",
        "--inspect",
        "slit",
    )
    assert result.code == 70
    assert "0xc0000000" in result.err.splitlines()[0]
    assert result.last.startswith("numalab: exit 0 after")
    assert "there is no SLIT" in result.out


def test_a_guest_that_failed_can_be_looked_into(numalab: Numalab, script: Script) -> None:
    result = numalab("boot", script("    ud2"), *SMALL, "--inspect", "buddyinfo")
    assert result.code == 76
    assert result.out.startswith("Node 0, zone      DMA ")


# --- the process ----------------------------------------------------------------------------------
def test_ctrl_c_ends_cleanly_with_130_and_one_line(script: Script, tmp_path: Path) -> None:
    name = script('    print "up\\n"\nhere: jmp here')
    child = subprocess.Popen(
        [sys.executable, "-m", "allocator", "boot", str(tmp_path / name), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"  # the console is live
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert err.count("\n") == 1
    assert err.startswith("numalab: interrupted after ")


def test_a_reader_that_went_away_is_an_output_error(script: Script, tmp_path: Path) -> None:
    name = script('here: print "yes\\n"\n    jmp here')
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "allocator", "boot", str(tmp_path / name), *SMALL],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        check=False,
    )
    os.close(write_end)
    assert done.returncode == 73
    assert done.stderr == "numalab: standard output: Broken pipe (exit 73)\n"


# --- a disk of the host's -------------------------------------------------------------------------
def test_files_lie_in_a_file_of_the_host(numalab: Numalab, script: Script, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    body = """
    lea r14, [rip + name]
    hypercall HC_OPEN, r14, 4, {flags}
    jnz 9f
    mov r12, rax
    {act}
    jnz 9f
    exit 0
9:  exit 3
name: .ascii "note"
"""
    put = "hypercall HC_WRITE, r12, r14, 4, 0\n    jnz 9f\n    hypercall HC_FSYNC, r12"
    write = body.format(flags="O_CREAT | O_RDWR", act=put)
    read = body.format(flags="O_RDONLY", act="hypercall HC_FSIZE, r12\n    cmp rax, 4")
    change = body.format(flags="O_RDWR", act="cmp rax, rax")
    assert numalab("boot", script(write), *SMALL, "--files", str(disk)).code == 0
    assert b"note" in disk.read_bytes()
    assert numalab("boot", script(read), *SMALL, "--files", f"{disk},ro").code == 0
    assert numalab("boot", script(change), *SMALL, "--files", f"{disk},ro").code == 3
    assert numalab("boot", script(change), *SMALL, "--files", str(disk)).code == 0
    missing = numalab("boot", script(read), *SMALL, "--files", str(tmp_path / "none"))
    assert missing.code == 66
    assert missing.err.count("\n") == 1


@pytest.mark.parametrize("engine", ["python", "auto"])
def test_cpus_in_threads_print_what_those_that_take_turns_do(numalab: Numalab, engine: str) -> None:
    options = ("boot", "smp.S", "--numa", "2x64M,cpus=2", "--engine", engine)
    turns, threads = numalab(*options), numalab(*options, "--threads")
    assert threads.code == turns.code == 0
    assert threads.out == turns.out
    assert "64 pages allocated, 64 freed" in threads.last


def test_cpus_in_threads_end_at_the_time_limit(numalab: Numalab, script: Script) -> None:
    ended = numalab("boot", script("1: jmp 1b"), *SMALL, "--threads", "--timeout", "0.3")
    assert ended.code == 75
    assert "time limit of 0.3 s spent" in ended.last

# SPDX-License-Identifier: GPL-2.0-only
"""Processes made of guest code: demand paging, copy on write, waiting, and dying of faults."""

from __future__ import annotations

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.check import check_frames
from allocator.errors import SystemCallError
from allocator.hypercall import ERRNO
from allocator.kernel import Kernel
from allocator.scripts import SCRIPTS
from firmware import load_script
from machine import Machine, Stop, Topology
from tests.allocator.processes import events

from .machines import MACHINES, boot

BUDGET = 500_000_000
on_every_machine = pytest.mark.parametrize("name", MACHINES)


def finished(guest: Guest) -> list[str]:
    stop = guest.machine.run(BUDGET)
    text = guest.machine.console.text
    assert (stop.kind, stop.code) == ("exit", 0), f"{stop.message}\n{text}"
    report = check_frames(guest.machine.memory)
    assert report.sound, str(report)
    return text.splitlines()


def guest_of(body: str, topology: str = "1x64M") -> Guest:
    text = f'.include "numalab.inc"\n.globl _start\n_start: numalab_init\n{body}\n'
    return boot_image(Machine(Topology.parse(topology)), load_script(text))


def run(body: str, topology: str = "1x64M") -> tuple[Stop, str, Guest]:
    guest = guest_of(body, topology)
    return guest.machine.run(BUDGET), guest.machine.console.text, guest


@on_every_machine
def test_pages_come_when_they_are_touched_and_strays_die_alone(name: str) -> None:
    lines = finished(boot(name, "demand_paging.S"))
    assert lines[1:] == [
        "read: all zero",
        "written: 64 pages keep what they got",
        "given up: zero again",
        "a stack grew to 12 pages",
        "child 2 died of signal 11",
        "child 3 died of signal 11",
        "child 4 died of signal 11",
        "unmapped",
    ]


@on_every_machine
def test_a_forked_child_writes_to_pages_of_its_own(name: str) -> None:
    lines = finished(boot(name, "cow_fork.S"))
    assert lines == [
        *(f"child {pid} ended with status 0" for pid in (2, 3, 4)),
        "the parent's pages are untouched",
    ]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        ("HC_MMAP, 0, 0, 3, 0x22, -1, 0", "EINVAL"),
        ("HC_MMAP, 0, -4096, 3, 0x22, -1, 0", "ENOMEM"),
        ("HC_MMAP, 0, 4096, 3, 0x20, -1, 0", "EINVAL"),
        ("HC_MMAP, 4096, 4096, 3, 0x32, -1, 0", "EPERM"),
        ("HC_MMAP, 0, 4096, 3, 0x2, 3, 0", "EBADF"),
        ("HC_MMAP, 0, 4096, 3, 0x22, -1, 5", "EINVAL"),
        ("HC_MUNMAP, 1, 4096", "EINVAL"),
        ("HC_MUNMAP, -4096, 4096", "EINVAL"),
        ("HC_MPROTECT, 8192, -1, 1", "ENOMEM"),
        ("HC_MPROTECT, 0, 4096, 0x40", "EINVAL"),
        ("HC_MADVISE, 0, 4096, 99", "EINVAL"),
        ("HC_MLOCK, 0, 4096", "ENOMEM"),
        ("HC_MLOCKALL, 0", "EINVAL"),
        ("HC_MLOCKALL, 9", "EINVAL"),
        ("HC_MREMAP, 0, 4096, 8192, 0, 0", "EFAULT"),
        ("HC_MREMAP, 4096, 4096, 0, 1, 0", "EINVAL"),
        ("HC_MREMAP, 4096, 4096, 4096, 2, 0", "EINVAL"),
        ("HC_MREMAP, 0, 4096, 4096, 3, -4096", "EINVAL"),
        ("HC_MBIND, 0, 4096, 2, 0x8000, 0", "EINVAL"),
        ("HC_SET_MEMPOLICY, 2, 0x8000", "EINVAL"),
        ("HC_MOVE_PAGES, -1, 0, 0, 0", "EINVAL"),
        ("HC_MOVE_PAGES, 1, 64, 0, 64", "EFAULT"),
        ("HC_WAIT, -1", "ECHILD"),
        ("HC_SET_OOM_SCORE_ADJ, 77, 0", "ESRCH"),
    ],
)
def test_a_refused_call_gets_linux_errno(call: str, errno: str) -> None:
    stop, _, _ = run(f"hypercall {call}\nmov rbx, rdx\nhypercall HC_EXIT, rbx\n1: jmp 1b")
    assert (stop.kind, stop.code) == ("exit", ERRNO[errno])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("movabs rax, 0x7f0000000000\nmov rax, [rax]", "SIGSEGV at 0x7f0000000000: address not"),
        ("ud2", "SIGILL at"),
        ("xor edx, edx\nxor ecx, ecx\ndiv ecx", "SIGFPE at"),
        ("movabs rax, 0x8000000000000000\nmov rax, [rax]", "SIGSEGV"),
        ("hypercall HC_EXIT_PROCESS, 3", "Attempted to kill init! exitcode=0x00000300"),
    ],
)
def test_the_death_of_init_ends_the_machine_with_its_reason(body: str, said: str) -> None:
    stop, _, _ = run(f"hypercall HC_GETPID\n{body}\n1: jmp 1b")
    assert stop.kind == "fault"
    assert said in stop.message
    assert "Attempted to kill init" in stop.message


def test_shared_memory_is_shared_across_a_fork_and_a_move() -> None:
    body = """
    hypercall HC_MLOCKALL, MCL_FUTURE
    jnz bad
    hypercall HC_MMAP, 0, 8192, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0
    jnz bad
    mov rbx, rax
    hypercall HC_MUNLOCKALL
    mov qword ptr [rbx + 4096], 5
    hypercall HC_FORK
    jnz bad
    test rax, rax
    jz child
    hypercall HC_WAIT, -1
    cmp qword ptr [rbx + 4096], 6
    jne bad
    print "the child's word"
    exit 0
child:
    hypercall HC_MREMAP, rbx, 8192, 16384, MREMAP_MAYMOVE, 0
    jnz bad
    cmp qword ptr [rax + 4096], 5
    jne bad
    inc qword ptr [rax + 4096]
    hypercall HC_EXIT_PROCESS, 0
bad: exit 1
"""
    stop, text, _ = run(body)
    assert (stop.kind, stop.code, text) == ("exit", 0, "the child's word")


def test_code_that_never_asked_for_a_process_faults_as_before() -> None:
    stop, _, _ = run("movabs rax, 0x7f0000000000\nmov rax, [rax]")
    assert stop.kind == "fault"
    assert "page not present" in stop.message


def test_cpus_run_processes_of_their_own_side_by_side() -> None:
    body = """
    hypercall HC_GETPID
    lea rcx, [rip + second]
    hypercall HC_START_CPU, 1, rcx, 0, 0
    jnz bad
    hypercall HC_MMAP, 0, 8192, 3, 0x22, -1, 0
    mov rbx, rax
    mov qword ptr [rbx], 1
1:  hypercall HC_YIELD
    lea rax, [rip + flag]
    cmp qword ptr [rax], 0
    je 1b
    cmp qword ptr [rbx], 1
    jne bad
    hypercall HC_WAIT, -1
    jnz bad
    print "waited for "
    print_decimal rax
    exit 0
bad: exit 1
second:
    numalab_init
    hypercall HC_MMAP, 0, 8192, 3, 0x22, -1, 0
    mov rbx, rax
    mov qword ptr [rbx], 2
    lea rax, [rip + flag]
    mov [rax], rbx
    hypercall HC_EXIT_PROCESS, 0
2:  jmp 2b
    .data
flag: .quad 0
    .text
    """
    stop, text, guest = run(body, "2x64M")
    assert (stop.kind, stop.code) == ("exit", 0), stop.message
    assert text == "waited for 2"
    assert check_frames(guest.machine.memory).sound


def test_user_mode_faults_pages_in_and_may_not_touch_the_kernel() -> None:
    body = """
    hypercall HC_MMAP, 0, 0x4000, 7, 0x22, -1, 0
    mov rbx, rax
    lea rsi, [rip + code]
    mov rdi, rbx
    mov ecx, 64
    cld
    rep movsb
    hypercall HC_FORK
    test rax, rax
    jnz parent
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1
    wrmsr
    mov ecx, 0xc0000081
    xor eax, eax
    mov edx, 0x00200010
    wrmsr
    mov rcx, rbx
    mov r11d, 2
    lea rsp, [rbx + 0x3000]
    lea rdi, [rbx + 0x2000]
    sysretq
parent:
    hypercall HC_WAIT, -1
    mov rax, [r15 + MAILBOX_ARG1]
    print_decimal rax
    exit 0
code:
    mov qword ptr [rdi], 5
    push rax
    movabs rax, 0xffff888000000000
    mov rax, [rax]
    jmp code
    .fill 64
    """
    stop, text, guest = run(body)
    assert (stop.kind, stop.code, text) == ("exit", 0, "11"), stop.message
    assert "SIGSEGV at 0xffff888000000000" in guest.hypercalls.processes.deaths[0]
    assert check_frames(guest.machine.memory).sound


@pytest.mark.parametrize("script", ["cow_fork.S", "oom.S"])
def test_two_runs_of_the_same_processes_leave_the_same_ram(script: str) -> None:
    images = []
    for _ in range(2):
        guest = boot("1x64M", script)
        finished(guest)
        images.append(bytes(guest.machine.memory.bytes[: 64 << 20]))
    assert images[0] == images[1]


def test_a_run_cut_into_small_budgets_is_the_same_run() -> None:
    whole = guest_of(FORK_AND_WAIT)
    finished(whole)
    cut = guest_of(FORK_AND_WAIT)
    while (stop := cut.machine.run(7)).kind == "budget":
        pass
    assert (stop.kind, stop.code) == ("exit", 0)
    size = 64 << 20
    assert whole.machine.console.text == cut.machine.console.text
    assert bytes(whole.machine.memory.bytes[:size]) == bytes(cut.machine.memory.bytes[:size])


def test_python_and_a_guest_process_share_one_kernel() -> None:
    guest = guest_of(
        "hypercall HC_MMAP, 0, 8192, 3, 0x22, -1, 0\nmov rbx, rax\nmov qword ptr [rbx], 77\n"
        "hypercall HC_YIELD\n1: cmp qword ptr [rbx], 78\njne 1b\nexit 0"
    )
    assert guest.machine.run(200_000).kind == "budget"
    kernel = Kernel.attach(guest.machine.memory, guest.machine)
    init = kernel.process(1)
    start = init.areas[0].start
    assert init.name == "init"
    assert init.read(start, 8) == (77).to_bytes(8, "little")
    assert init.in_guest
    for call in (lambda: init.read(1 << 40, 1), init.exit):
        with pytest.raises(SystemCallError):
            call()
    assert init.alive
    init.write(start, (78).to_bytes(8, "little"))
    assert guest.machine.run(BUDGET).kind == "exit"


FORK_AND_WAIT = """
    hypercall HC_MMAP, 0, 65536, 3, 0x22, -1, 0
    mov rbx, rax
    mov qword ptr [rbx], 5
    hypercall HC_FORK
    test rax, rax
    jz 1f
    hypercall HC_WAIT, -1
    print_decimal [rbx]
    exit 0
1:  mov qword ptr [rbx], 6
    print_decimal [rbx]
    hypercall HC_EXIT_PROCESS, 0
2:  jmp 2b
"""


def test_the_oom_killer_takes_the_hog_and_nobody_else() -> None:
    lines = finished(boot("1x64M", "oom.S"))
    assert lines == [
        "the hog was killed",
        "the second hog was killed",
        "the thrifty one lives and has what it wrote",
    ]


def test_a_process_larger_than_ram_keeps_every_word_in_swap() -> None:
    text = (SCRIPTS / "swap_storm.S").read_text()
    text = text.replace("STORM_MIB, 384", "STORM_MIB, 72").replace(
        "SWAP_MIB,  512", "SWAP_MIB,  128"
    )
    guest = boot_image(Machine(Topology.parse("1x64M")), load_script(text))
    lines = finished(guest)
    assert lines[:2] == ["written: 72 MiB", "read back: every word"]
    kernel = Kernel.attach(guest.machine.memory)
    assert events(kernel, "pswpout") > 2000
    assert events(kernel, "pswpin") > 2000
    assert events(kernel, "oom_kill") == 0


@pytest.mark.slow
def test_the_storm_itself() -> None:
    assert finished(boot_image(Machine(Topology.parse("2x64M")), "swap_storm.S"))[1:2] == [
        "read back: every word"
    ]

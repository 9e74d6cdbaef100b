# SPDX-License-Identifier: GPL-2.0-only
"""machine/threads.py: CPUs in host threads are CPUs, and every run comes to an end."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from machine import Machine, UsageError, Verdict
from machine.threads import ThreadedRun
from machine.vcpu import VCPU

Make = Callable[..., Any]
SPIN = "ebfe"
RING = "66ba4c4e ef"
MINUTE = 20.0
"""No run here takes seconds; one that hangs ends as a timeout."""
WORD = 0x3000
ADDRESS = WORD.to_bytes(4, "little").hex()


def run(machine: Machine, budget: int | None = None, timeout: float = MINUTE) -> Any:
    return machine.run(budget, timeout, threads=True)


def counting(loops: int, instruction: str) -> str:
    """`instruction` so often: mov ecx, loops; 1: instruction; dec ecx; jnz 1b; hlt."""
    size = len(bytes.fromhex(instruction))
    return f"b9{loops.to_bytes(4, 'little').hex()} {instruction} ffc9 75{256 - size - 4:02x} f4"


def on_all(g: Any, code: str) -> Machine:
    for cpu in range(len(g.machine.cpus)):
        g.start(code, cpu, 0x100000 + 0x1000 * cpu)
    machine: Machine = g.machine
    return machine


@pytest.mark.parametrize(
    ("instruction", "step"),
    [
        (f"f0ff0425{ADDRESS}", 1),  # lock inc dword [WORD]
        (f"f0 4883 0425{ADDRESS} 03", 3),  # lock add qword [WORD], 3
        (f"b802000000 f0 0fc1 0425{ADDRESS}", 2),  # mov eax, 2; lock xadd [WORD], eax
    ],
)
def test_a_locked_instruction_of_two_cpus_loses_no_count(
    guest: Make, instruction: str, step: int
) -> None:
    machine = on_all(guest("1x64M,cpus=2"), counting(300_000, instruction))
    assert run(machine).kind == "halt"
    assert machine.memory.words[WORD // 8] == 2 * 300_000 * step


def test_a_lock_of_xchg_and_a_plain_store_lets_one_cpu_in_at_a_time(guest: Make) -> None:
    lock, word = (WORD + 64).to_bytes(4, "little").hex(), ADDRESS
    # 1: mov eax, 1; xchg [lock], eax; test eax, eax; jnz 1b; inc [word]; mov [lock], 0
    code = f"b801000000 870425{lock} 85c0 75f0 48ff0425{word} c70425{lock}00000000"
    machine = on_all(guest("1x64M,cpus=2"), counting(50_000, code))
    assert run(machine).kind == "halt"
    assert machine.memory.words[WORD // 8] == 100_000


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        (f"f0ff0425{(WORD + 3).to_bytes(4, 'little').hex()} f4", 3),  # lock inc dword, unaligned
        # xor all; mov ebx, 1; lock cmpxchg16b [WORD]
        (f"31c0 31d2 31c9 bb01000000 f0480fc70c25{ADDRESS} f4", 0),
    ],
)
def test_what_the_host_cannot_do_in_one_piece_is_done_while_the_others_rest(
    guest: Make, code: str, offset: int
) -> None:
    g = guest("1x64M,cpus=2")
    g.start(code)
    g.start(counting(2_000_000, "90"), 1, 0x101000)
    assert run(g.machine).kind == "halt"
    assert g.machine.memory.read(WORD + offset, 1) == b"\1"


def test_a_write_of_one_cpu_is_seen_by_another_that_waits_for_it(guest: Make) -> None:
    g = guest()
    g.start("f390 833c250030000007 75f4 f4")  # pause; cmp dword [0x3000], 7; jne; hlt
    g.start(f"{counting(500_000, '90')[:-3]} c704250030000007000000 f4", 1, 0x101000)
    assert run(g.machine).kind == "halt"


def test_the_exit_of_one_cpu_stops_those_that_spin(guest: Make) -> None:
    g = guest("1x64M,cpus=3")
    for cpu in (0, 1):
        g.start(SPIN, cpu, 0x100000 + 0x1000 * cpu)
    g.start(counting(1000, "90")[:-3] + " b005 e6f4 f4", 2, 0x102000)
    stop = run(g.machine)
    assert (stop.kind, stop.code, stop.cpu) == ("exit", 11, 2)


def test_a_fault_of_one_cpu_ends_the_run_and_names_it(guest: Make) -> None:
    g = guest()
    g.start(SPIN)
    g.start("48a10000000001000000", 1, 0x101000)
    stop = run(g.machine)
    assert (stop.kind, stop.cpu, stop.rip) == ("fault", 1, 0x101000)
    assert stop.registers["rip"] == 0x101000


@pytest.mark.parametrize("budget", [1, 7, 1000, 1_234_567])
def test_a_budget_is_spent_to_the_last_instruction_and_no_more(guest: Make, budget: int) -> None:
    machine = on_all(guest("1x64M,cpus=3"), SPIN)
    stop = run(machine, budget)
    assert (stop.kind, stop.instructions) == ("budget", budget)
    assert sum(cpu.retired for cpu in machine.cpus) == machine.clock.now == budget


def test_every_cpu_gets_its_share_of_a_budget(guest: Make) -> None:
    machine = on_all(guest("1x64M,cpus=3"), SPIN)
    run(machine, 60_000_000)
    assert all(cpu.retired for cpu in machine.cpus)


def test_a_time_limit_ends_cpus_that_spin(guest: Make) -> None:
    stop = run(on_all(guest(), SPIN), timeout=0.05)
    assert stop.kind == "timeout"


def test_what_a_device_raises_in_a_thread_comes_out_of_the_run(guest: Make) -> None:
    class BrokenError(Exception):
        pass

    def broken(cpu: int, value: int) -> Verdict:
        raise BrokenError(cpu)

    g = guest()
    g.start(SPIN)
    g.start(f"{RING} {SPIN}", 1, 0x101000)
    g.machine.doorbell.handler = broken
    with pytest.raises(BrokenError, match="1"):
        run(g.machine)
    assert threading.active_count() == 1
    g.machine.doorbell.handler = None
    assert run(g.machine, 1000).kind == "budget"  # and the machine goes on


def test_an_interrupt_by_the_user_ends_the_run(guest: Make) -> None:
    machine = on_all(guest(), SPIN)
    threading.Timer(0.1, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        run(machine)
    assert not machine.in_threads
    assert run(machine, 1000).kind == "budget"


def test_a_machine_cannot_be_saved_or_run_again_while_it_runs(guest: Make) -> None:
    g = guest()
    refused: list[str] = []

    def ask(cpu: int, value: int) -> Verdict:
        for what in (g.machine.save, g.machine.checkpoint, g.machine.reset, g.machine.run):
            with pytest.raises(UsageError) as error:
                what()
            refused.append(str(error.value))
        return Verdict.CONTINUE

    g.start(f"{RING} f4")
    g.machine.doorbell.handler = ask
    assert run(g.machine).kind == "halt"
    assert len(refused) == 4


def test_what_is_done_alone_no_other_cpu_sees_half_done(guest: Make) -> None:
    g = guest()
    machine = g.machine
    words = machine.memory.words
    torn: list[tuple[int, int]] = []

    def alone(cpu: int, value: int) -> Verdict:
        if cpu == 0:
            with machine.alone():
                before = words[WORD // 8]
                time.sleep(0.001)
                torn.append((before, words[WORD // 8]))
        return Verdict.CONTINUE

    machine.doorbell.handler = alone
    g.start(counting(20, RING))
    g.start(f"48ff0425{ADDRESS} ebf6", 1, 0x101000)  # inc [WORD], for ever
    stop = run(machine, 30_000_000)
    assert stop.kind == "budget"
    assert len(torn) == 20
    assert all(before == after for before, after in torn)
    assert torn[-1][0] > torn[0][0]


def test_a_cpu_that_is_started_in_the_middle_runs_beside_the_one_that_started_it(
    guest: Make,
) -> None:
    g = guest()

    def start(cpu: int, value: int) -> Verdict:
        g.machine.cpus[1].start(0x101000, 0x8F000, g.tables.root)
        return Verdict.CONTINUE

    g.put(f"c70425{ADDRESS}07000000 f4", 0x101000)
    g.machine.doorbell.handler = start
    g.start(f"{RING} f390 833c250030000007 75f4 f4")
    assert run(g.machine).kind == "halt"


def test_time_goes_on_to_what_wakes_a_halted_cpu(guest: Make) -> None:
    g = guest()
    g.start("fb f4 f4")  # sti; hlt
    rang: list[int] = []
    timer = g.machine.events.timer("test", lambda: rang.append(g.machine.clock.now))
    timer.set(5_000_000)
    stop = run(g.machine)
    assert (stop.kind, rang) == ("halt", [5_000_000])


def test_a_run_in_turns_after_one_in_threads_is_as_any_other(guest: Make) -> None:
    code = counting(1000, f"f0ff0425{ADDRESS}")
    plain, mixed = (on_all(guest("1x64M,cpus=2"), code) for _ in range(2))
    plain.run()
    run(mixed, 1)
    mixed.run()
    assert [cpu.retired for cpu in plain.cpus] == [cpu.retired for cpu in mixed.cpus]
    assert plain.memory.read(0, 0x200000) == mixed.memory.read(0, 0x200000)


def test_with_a_scheduler_of_processes_the_cpus_take_turns(
    guest: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    machine = on_all(guest(), counting(1000, "90"))

    def schedule(cpu: VCPU) -> bool:
        seen.append(machine.in_threads)
        return True

    machine.schedule = schedule
    assert run(machine).kind == "halt"
    assert seen
    assert not any(seen)


def test_an_engine_without_atomic_instructions_is_refused_in_one_line(
    guest: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = guest().start("f4")
    monkeypatch.setattr(VCPU, "run_beside_others", lambda _, on: not on)
    with pytest.raises(UsageError, match="cpu 0's engine knows no atomic instructions"):
        run(machine)
    assert machine.run().kind == "halt"


def test_a_call_that_does_not_end_is_broken_off(
    guest: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.threads.STUCK_SECONDS", 0.05)
    broken = threading.Event()
    threads: list[int] = []

    def endless(cpu: int, value: int) -> Verdict:
        threads.append(threading.get_ident())
        assert broken.wait(MINUTE)
        return Verdict.CONTINUE

    g = guest()
    machine = g.start(f"{RING} f4")
    machine.doorbell.handler = endless

    def break_call(thread: int) -> None:
        threads.append(thread)
        broken.set()

    machine.break_call = break_call
    stop = run(machine)
    assert stop.kind == "halt"
    assert threads[0] == threads[1]


def test_a_run_without_any_cpu_says_so(guest: Make) -> None:
    machine = guest().machine
    assert (run(machine).kind, ThreadedRun(machine, 0, None, None, None).current) == ("halt", None)

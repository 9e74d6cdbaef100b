# SPDX-License-Identifier: GPL-2.0-only
"""Running a guest to its end in short turns."""

from __future__ import annotations

import os
import signal

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.cli.run_loop import run_guest
from firmware import load_script
from machine import Machine, Topology


def guest(body: str) -> Guest:
    text = f'.include "numalab.inc"\n.globl _start\n_start: numalab_init\n{body}\n'
    return boot_image(Machine(Topology.parse("1x64M")), load_script(text))


SPIN = "here: jmp here"


def test_the_turns_a_run_is_cut_into_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "mov ecx, 5000000\n1: dec ecx\njnz 1b\ninfo INFO_CLOCK\nmov rbx, rax\nexit 9"
    whole = guest(body)
    expected = whole.machine.run()
    monkeypatch.setattr("allocator.cli.run_loop.TURN", 0.0005)
    calls: list[int] = []
    cut = guest(body)
    outcome = run_guest(cut, between=lambda _, done: calls.append(done))
    assert len(calls) > 1
    assert calls == sorted(calls)
    assert outcome.stop == expected
    assert cut.machine.cpus[0].regs["rbx"] == whole.machine.cpus[0].regs["rbx"]


def test_the_budget_counts_over_all_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.cli.run_loop.TURN", 0.0005)
    stop = run_guest(guest(SPIN), budget=500_001).stop
    assert (stop.kind, stop.code, stop.instructions) == ("budget", 75, 500_001)
    assert stop.message.startswith("budget of 500,001 instructions spent at rip 0x1000")


def test_no_budget_and_a_time_limit() -> None:
    stop = run_guest(guest(SPIN), budget=None, timeout=0.25).stop
    assert (stop.kind, stop.code) == ("timeout", 75)
    assert stop.message.startswith("time limit of 0.25 s spent at rip ")


def test_sigint_ends_the_run_and_the_old_handler_is_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    sent: list[float] = []

    def press_ctrl_c(seconds: float, _: int) -> None:
        if not sent:
            sent.append(seconds)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_guest(guest(SPIN), budget=None, between=press_ctrl_c)
    assert outcome.interrupted
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_guest_that_exits_in_time_is_not_interrupted() -> None:
    outcome = run_guest(guest("exit 4"))
    assert (outcome.stop.kind, outcome.stop.code, outcome.interrupted) == ("exit", 4, False)

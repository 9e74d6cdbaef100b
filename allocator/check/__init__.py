# SPDX-License-Identifier: GPL-2.0-only
"""Checking a machine: every frame in exactly one legal state, every view in agreement.

`check_frames(memory)` applies all registered rules to the RAM of a machine and returns a `Report`.
It only reads, follows no pointer without testing it and never takes longer than the size of the
machine warrants, so it can be pointed at anything: a running machine, a snapshot, a RAM image that
a guest has scribbled over. It raises nothing because of what RAM holds.

One module a subject: `kernel_rules`, `memmap`, `node_rules`, `zone_rules`, `free_lists`,
`pcp_lists`, `compound_pages`, `page_ext_rules`, `frame_states`. `lists` verifies linked lists in
bulk, `context` keeps what they share, `registry` is the table of rules and the way to add more.
"""

from __future__ import annotations

import time

import numpy as np

from machine import PhysicalMemory

from . import (  # noqa: F401  (each module registers its rules)
    compound_pages,
    deferred,
    frame_states,
    free_lists,
    kernel_rules,
    lru_rules,
    memmap,
    node_rules,
    owner_rules,
    page_ext_rules,
    pcp_lists,
    shmem_rules,
    swap_rules,
    zone_rules,
)
from .context import Check
from .registry import Checker, checkers, register, rules, unregister
from .report import Finding, Report

__all__ = [
    "Checker",
    "Finding",
    "Report",
    "check_frames",
    "checkers",
    "register",
    "rules",
    "unregister",
]


def check_frames(memory: PhysicalMemory, *, strict: bool = False) -> Report:
    """Applies every rule to the machine in `memory`.

    Returns a Report; `report.sound` says whether all rules hold. RAM is only read. A checker that
    stumbles over what RAM holds makes a finding of it, or with `strict` raises its error.
    """
    began = time.perf_counter()
    check = Check(memory)
    if not check.booted:
        check.findings.append(
            Finding("magic", "kernel globals", "no RAM is where the kernel lives", None, 0, "")
        )
        return check.report(len(rules()), time.perf_counter() - began)
    with np.errstate(all="ignore"):
        for checker in checkers():
            try:
                checker.run(check)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                if strict:
                    raise
                check.add("checkable", f"rules about {checker.name}", f"untestable: {error}", 0)
    return check.report(len(rules()), time.perf_counter() - began)

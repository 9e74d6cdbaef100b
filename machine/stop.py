# SPDX-License-Identifier: GPL-2.0-only
"""How a run of the machine ended: `Stop`, what `Machine.run` returns."""

from __future__ import annotations

from dataclasses import dataclass, field

EXIT_HALT, EXIT_BUDGET, EXIT_FAULT = 0, 75, 76
"""Exit codes of the command for what is not the guest's own: halted, out of budget, faulted."""
KINDS = ("exit", "halt", "fault", "budget", "timeout", "reset", "loop")


@dataclass(frozen=True)
class Stop:
    """How a run ended: `kind` is "exit" (the guest asked; `code` is its own), "halt" (no CPU can go
    on), "fault", "budget", "timeout", "reset" (with nobody to boot again) or "loop" (a jump to
    itself, if asked for); `cpu` and `rip` tell where, `instructions` how many retired in this run,
    `registers` the CPU's registers after a fault."""

    kind: str
    code: int
    cpu: int
    rip: int
    instructions: int
    message: str
    registers: dict[str, int] = field(default_factory=dict)


def is_pending(kind: object, code: object, message: object) -> bool:
    """Whether a saved machine may have been asked to stop with these three."""
    return kind in KINDS and isinstance(code, int) and isinstance(message, str)

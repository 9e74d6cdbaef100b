# SPDX-License-Identifier: GPL-2.0-only
"""What a CPU could not do, for people: the access the MMU refused, or the exception.

`vcpu` makes a `Fault` of every exception, hands it to the guest if the guest has a handler, and
else to whoever runs the machine."""

from __future__ import annotations

from dataclasses import dataclass

_VECTORS = (
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
)


def vector_name(vector: int) -> str:
    """ "exception 6 (#UD invalid opcode)", "interrupt 32"."""
    if vector < len(_VECTORS):
        return f"exception {vector} ({_VECTORS[vector]})"
    return f"exception {vector} (interrupt)"


@dataclass(frozen=True)
class Fault:
    """An access the MMU refused (`access`, `va`, page-fault `error_code` as SDM volume 3, 4.7) or
    an exception (`vector`, the rest None); `reason` is for people."""

    cpu_id: int
    rip: int
    reason: str
    access: str | None = None
    va: int | None = None
    error_code: int | None = None
    vector: int | None = None

    def __str__(self) -> str:
        where = f"cpu {self.cpu_id} at rip {self.rip:#x}"
        if self.va is None:
            return f"{where}: {self.reason}"
        return f"{where}: {self.access} of {self.va:#x}: {self.reason}"

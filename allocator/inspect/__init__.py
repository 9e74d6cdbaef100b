# SPDX-License-Identifier: GPL-2.0-only
"""Looking inside a guest: the kernel's own files to the letter, and crash's commands.

One module an idea: `buddyinfo` (with pagetypeinfo and the fragmentation indices), `zoneinfo` (with
vmstat and numastat), `meminfo`, `iomem`, `kpage` (kpageflags, kpagecount), `page_owner`, `kmem`
(with `frame` and `lists`), `owner`, `slabinfo`, `vtop`, `memory` (rd, search), `structure`, and
`symbols`, which names addresses. All are pure readers: they never write to the guest.

`INSPECTORS` is the table that `numalab inspect` and others go by; `inspect` looks one up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from machine import NumalabError, PhysicalMemory

from ..errors import BadRequest, KernelOops
from .fields import Report, Table

__all__ = ["INSPECTORS", "Inspector", "Report", "Table", "inspect"]


@dataclass(frozen=True)
class Inspector:
    """How to call one: module and function of this package, what it takes and what it is for.

    `takes`: "words" (the word array), "memory", "both", each followed by the arguments if `args`
    says that there are any.
    """

    module: str
    function: str
    takes: str
    args: str
    help: str

    def call(self, memory: PhysicalMemory, args: list[str]) -> Report:
        """Runs it. Raises BadRequest for arguments that it does not take."""
        function: Callable[..., Report] = getattr(
            import_module(f".{self.module}", __package__), self.function
        )
        given: list[Any] = [memory] if self.takes == "memory" else [memory.words]
        if self.takes == "both":
            given.append(memory)
        if self.args:
            return function(*given, args)
        if args:
            raise BadRequest(f"{self.function}: takes no argument, not {args[0]!r}")
        return function(*given)


INSPECTORS: dict[str, Inspector] = {
    "buddyinfo": Inspector("buddyinfo", "buddyinfo", "words", "", "/proc/buddyinfo"),
    "pagetypeinfo": Inspector("buddyinfo", "pagetypeinfo", "words", "", "/proc/pagetypeinfo"),
    "zoneinfo": Inspector("zoneinfo", "zoneinfo", "words", "", "/proc/zoneinfo"),
    "vmstat": Inspector("zoneinfo", "vmstat", "words", "", "/proc/vmstat"),
    "meminfo": Inspector(
        "meminfo", "meminfo_command", "both", "[NODE]", "/proc/meminfo, or a node's"
    ),
    "numastat": Inspector(
        "zoneinfo",
        "numastat_command",
        "words",
        "[NODE | -p PID]",
        "sysfs node*/numastat, or where a process has its memory",
    ),
    "slabinfo": Inspector("slabinfo", "slabinfo", "words", "", "/proc/slabinfo"),
    "owner": Inspector(
        "owner", "owner", "memory", "[FRAME]", "whose frame is this, or how many has each owner"
    ),
    "iomem": Inspector("iomem", "iomem", "memory", "", "/proc/iomem"),
    "extfrag_index": Inspector("buddyinfo", "extfrag_index", "words", "", "debugfs extfrag_index"),
    "unusable_index": Inspector(
        "buddyinfo", "unusable_index", "words", "", "debugfs unusable_index"
    ),
    "kpageflags": Inspector(
        "kpage", "kpageflags", "memory", "", "/proc/kpageflags (binary), for page-types -F"
    ),
    "kpagecount": Inspector("kpage", "kpagecount", "memory", "", "/proc/kpagecount (binary)"),
    "page_owner": Inspector(
        "page_owner", "page_owner", "words", "", "debugfs page_owner, for page_owner_sort"
    ),
    "kmem": Inspector(
        "kmem",
        "kmem",
        "both",
        "-f | -p | -i | ADDRESS",
        "walk and verify free lists, list all pages, sum up, or whose frame is this",
    ),
    "vtop": Inspector("vtop", "vtop", "memory", "ADDRESS [ROOT]", "walk the page tables"),
    "rd": Inspector(
        "memory", "rd", "memory", "[-8|-16|-32|-64] [-s] ADDRESS [COUNT]", "read memory"
    ),
    "search": Inspector(
        "memory", "search", "memory", "[-m MASK] VALUE | -c TEXT", "search all RAM"
    ),
    "struct": Inspector(
        "structure", "struct", "memory", "NAME ADDRESS [COUNT]", "a structure field by field"
    ),
}


def inspect(memory: PhysicalMemory, what: str, args: list[str] | None = None) -> Report:
    """What `numalab inspect ... WHAT ARGS` shows of the guest in `memory`.

    Raises:
        BadRequest: an unknown WHAT or arguments that make no sense.
        KernelOops: the guest's structures are damaged so far that they cannot be followed.
    """
    if what not in INSPECTORS:
        raise BadRequest(f"cannot inspect {what!r}: one of {', '.join(INSPECTORS)}")
    try:
        return INSPECTORS[what].call(memory, list(args or []))
    except NumalabError:
        raise
    except (LookupError, ValueError, OverflowError, AssertionError) as error:
        raise KernelOops(f"{what}: the guest's structures are damaged ({error})") from None

# SPDX-License-Identifier: GPL-2.0-only
"""What the OOM killer says in the log, in the kernel's words (mm/oom_kill.c).

The records come from `oom_kill`; sizes in them are pages, in the text kB where the kernel has them.
There is no call trace to print, and Mem-Info is added by `page_report` when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from .gfp import format_gfp
from .trace_events import (
    LOG_OOM_INVOKED,
    LOG_OOM_KILL,
    LOG_OOM_KILLED,
    LOG_OOM_NOBODY,
    LOG_OOM_REAPED,
    LOG_OOM_TASK,
)

OOM_RECORDS = frozenset(
    {LOG_OOM_INVOKED, LOG_OOM_KILL, LOG_OOM_KILLED, LOG_OOM_NOBODY, LOG_OOM_REAPED, LOG_OOM_TASK}
)
MESSAGES = (
    "Out of memory",
    "Memory cgroup out of memory",
    "Out of memory (oom_kill_allocating_task)",
)
TASK_HEADER = (
    "Tasks state (memory values in pages):",
    "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
)


def kilobytes(pages: int) -> str:
    """Pages as the kernel's "%lukB"."""
    return f"{pages << 2}kB"


def oom_lines(kind: int, args: tuple[int, ...], pid: int, comm: str, mask: str) -> Iterator[str]:
    """The lines of one record: `args` its numbers, `pid` and `comm` of the task that it is about,
    `mask` the nodemask of the request as the kernel prints it."""
    if kind == LOG_OOM_INVOKED:
        gfp, order, _, adj = args[:4]
        yield (
            f"{comm} invoked oom-killer: gfp_mask={gfp:#x}({format_gfp(gfp)}), "
            f"nodemask={mask}, order={order}, oom_score_adj={adj}"
        )
        yield from TASK_HEADER
    elif kind == LOG_OOM_TASK:
        total, rss, tables, swap, adj = args[:5]
        sizes = f"{total:8} {rss:8} {tables:8} {swap:8}"
        yield f"[{pid:7}] {0:5} {pid:5} {sizes}         {adj:5} {comm}"
    elif kind == LOG_OOM_KILL:
        points, message = args[:2]
        yield f"{MESSAGES[message]}: Kill process {pid} ({comm}) score {points} or sacrifice child"
    elif kind == LOG_OOM_KILLED:
        total, anon, file, shmem = args[:4]
        yield (
            f"Killed process {pid} ({comm}) total-vm:{kilobytes(total)}, "
            f"anon-rss:{kilobytes(anon)}, file-rss:{kilobytes(file)}, shmem-rss:{kilobytes(shmem)}"
        )
    elif kind == LOG_OOM_REAPED:
        anon, file, shmem = args[:3]
        yield (
            f"oom_reaper: reaped process {pid} ({comm}), now anon-rss:{kilobytes(anon)}, "
            f"file-rss:{kilobytes(file)}, shmem-rss:{kilobytes(shmem)}"
        )
    elif kind == LOG_OOM_NOBODY:
        yield "Out of memory and no killable processes..."

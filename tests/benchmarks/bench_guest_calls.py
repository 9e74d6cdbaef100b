# SPDX-License-Identifier: GPL-2.0-only
"""What guest code pays for pages and for page walks. Reported, never asserted.

    python -m tests.benchmarks.bench_guest_calls

Figures aimed at, on the compiled engine: 8 million page requests a second from guest code through
the ring and 4 million through the mailbox; random reads over 128 MiB within 1.5 times the engine's
own page walk. Times are those of this thread (CPU time), best of several runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from allocator.engine import compiled_available, install_engine, load_engine
from tests.allocator.ring_guests import BATCH, boot_program, mailbox, ring
from tests.benchmarks.bench_instructions import bare, by_turns, loop, ours, python_walks

RUNS = 5
READS = 1_000_000


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(RUNS))


def request_seconds(body: str) -> float:
    guest = boot_program(body, "2x128M")
    began = time.thread_time()
    stop = guest.machine.run()
    seconds = time.thread_time() - began
    assert (stop.kind, stop.code) == ("exit", 0), stop
    return seconds


def requests() -> None:
    for name in ("python", "compiled") if compiled_available() else ("python",):
        rounds = 200_000 if name == "compiled" else 4_000
        undo = install_engine(load_engine(name))
        for order in (0, 3):
            seconds = best(lambda: request_seconds(mailbox(rounds, order)))  # noqa: B023
            print(f"{name:8} mailbox order {order}: {2 * rounds / seconds:12,.0f} requests/s")
            turns = rounds // BATCH
            seconds = best(lambda: request_seconds(ring(turns, order)))  # noqa: B023
            rate = 2 * BATCH * turns / seconds
            print(f"{name:8} ring    order {order}: {rate:12,.0f} requests/s")
        undo()


def page_walks() -> None:
    # rax = rax * rbx + 1; rsi = word at 16 MiB + random offset below 128 MiB
    body = "480fafc3 48ffc0 4889c2 48c1ea20 81e2f8ffff07 488bb200000001"
    setup = bytes.fromhex("48bb2d7f954c2df45158 48b8efcdab8967452301")
    code = setup + loop(body, READS)
    walker = load_engine("compiled").code.address("walk") if compiled_available() else 0  # type: ignore[attr-defined]
    for page, name in ((4096, "4K"), (2 << 20, "2M")):
        size = 160 << 20
        own, numba, native = by_turns(
            lambda: bare(code, size, page),  # noqa: B023
            lambda: ours(code, size, page, walker),  # noqa: B023
            lambda: ours(code, size, page),  # noqa: B023
        )
        few = setup + loop(body, READS // 20)
        with python_walks():
            python = 20 * min(ours(few, size, page) for _ in range(3))
        print(
            f"random reads, {name} pages: engine {own / READS * 1e9:.0f} ns, ratios: "
            f"the CPU's own native walk {native / own:.2f}, Numba's {numba / own:.2f}, "
            f"Python's {python / own:.2f}"
        )


if __name__ == "__main__":
    requests()
    page_walks()

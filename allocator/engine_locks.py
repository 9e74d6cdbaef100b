# SPDX-License-Identifier: GPL-2.0-only
"""The compiler's half of `spinlock`: its functions as atomic instructions and calls of the runtime.

A call's control block (`engine_turns`) says in word MODE whether other threads may be inside the
allocator: only SHARED calls lock zones, those that are alone need not. Doors of entry points begin
and end a call's membership; PARALLEL are those that several CPUs may be in at once, all others go
in alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .engine import ENDED
from .engine_runtime import MODE, SHARED
from .engine_turns import I32, I64, RETCODE_ENDED, control
from .mmzone import Z_LOCK

PARALLEL = frozenset(
    {
        "alloc_pages_nodemask",
        "free_pages",
        "free_unref_page",
        "alloc_pages_bulk",
        "free_pages_bulk",
        "repeat_pages",
        "serve_mailbox",
    }
)
UNGUARDED = frozenset({"walk", "scan_pages"})
"""Entry points that change nothing of the allocator's, and run beside everything."""

Place = Callable[[Any, Any], Any]
BYTES = ir.IntType(8).as_pointer()


def words_of(builder: Any) -> Any:
    """The control block as words."""
    return builder.bitcast(control(builder), I64.as_pointer())


def _mode(builder: Any) -> Any:
    return builder.load(builder.gep(words_of(builder), [I64(MODE)], inbounds=True))


def call_runtime(builder: Any, name: str, *arguments: Any) -> None:
    """Calls a routine of the runtime with the control block; leaves the function if it says so."""
    kinds = [I64.as_pointer(), *(one.type for one in arguments)]
    kind = ir.FunctionType(I32, kinds)
    routine = cgutils.get_or_insert_function(builder.module, kind, name)
    said = builder.call(routine, [words_of(builder), *arguments])
    with builder.if_then(builder.icmp_signed("!=", said, I32(0)), likely=False):
        builder.ret(RETCODE_ENDED)


def lock_zone(builder: Any, place: Place, values: list[Any]) -> None:
    """spinlock.lock_zone()."""
    with builder.if_then(builder.icmp_signed("==", _mode(builder), I64(SHARED)), likely=False):
        call_runtime(builder, "rt_lock", place(values[0], builder.add(values[1], I64(Z_LOCK))))


def unlock_zone(builder: Any, place: Place, values: list[Any]) -> None:
    """spinlock.unlock_zone()."""
    with builder.if_then(builder.icmp_signed("==", _mode(builder), I64(SHARED)), likely=False):
        word = place(values[0], builder.add(values[1], I64(Z_LOCK)))
        builder.store_atomic(I64(0), word, ordering="release", align=8)


def go_alone(builder: Any, place: Place, values: list[Any]) -> None:  # noqa: ARG001
    """spinlock.go_alone()."""
    with builder.if_then(builder.icmp_signed("==", _mode(builder), I64(SHARED)), likely=False):
        call_runtime(builder, "rt_alone")


def let_others_go(builder: Any, place: Place, values: list[Any]) -> None:  # noqa: ARG001
    """spinlock.let_others_go()."""
    with builder.if_then(builder.icmp_signed("!=", _mode(builder), I64(0)), likely=False):
        call_runtime(builder, "rt_stand_aside", values[1])


def add_to_word(builder: Any, place: Place, values: list[Any]) -> Any:
    """spinlock.add_to_word()."""
    return builder.atomic_rmw("add", place(values[0], values[1]), values[2], "seq_cst")


def set_word_bits(builder: Any, place: Place, values: list[Any]) -> None:
    """spinlock.set_word_bits(): bits are cleared and set in one exchange."""
    word = place(values[0], values[1])
    start = builder.block
    old = builder.load(word)
    again = builder.append_basic_block("again")
    done = builder.append_basic_block("done")
    builder.branch(again)
    builder.position_at_end(again)
    seen = builder.phi(I64)
    seen.add_incoming(old, start)
    new = builder.or_(builder.and_(seen, builder.not_(values[2])), values[3])
    found = builder.cmpxchg(word, seen, new, "seq_cst", "seq_cst")
    seen.add_incoming(builder.extract_value(found, 0), again)
    builder.cbranch(builder.extract_value(found, 1), done, again)
    builder.position_at_end(done)


def others_inside(builder: Any, place: Place, values: list[Any]) -> Any:  # noqa: ARG001
    """spinlock.others_inside()."""
    return builder.zext(builder.icmp_signed("==", _mode(builder), I64(SHARED)), I64)


def replace_word(builder: Any, place: Place, values: list[Any]) -> Any:
    """spinlock.replace_word()."""
    word = place(values[0], values[1])
    found = builder.cmpxchg(word, values[2], values[3], "seq_cst", "seq_cst")
    return builder.zext(builder.extract_value(found, 1), I64)


def prefetch(builder: Any, place: Place, values: list[Any]) -> None:  # noqa: ARG001
    """spinlock.prefetch(): the address need not be one."""
    word = builder.gep(builder.extract_value(values[0], 0), [values[1]])
    kind = ir.FunctionType(ir.VoidType(), [BYTES, I32, I32, I32])
    intrinsic = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(intrinsic, [builder.bitcast(word, BYTES), I32(0), I32(3), I32(1)])


LOCKING: dict[str, Callable[[Any, Place, list[Any]], Any]] = {
    "lock_zone": lock_zone,
    "unlock_zone": unlock_zone,
    "go_alone": go_alone,
    "let_others_go": let_others_go,
    "add_to_word": add_to_word,
    "set_word_bits": set_word_bits,
    "others_inside": others_inside,
    "replace_word": replace_word,
    "prefetch": prefetch,
}
"""How the functions of `spinlock` are compiled: from a builder, a way to word places, arguments."""


def begin_call(builder: Any, name: str, data: Any, cpu: Any) -> None:
    """In the door of entry point `name`, called by `cpu` (-1: nobody's) for RAM at `data`: becomes
    one of the team, if there is one for that RAM."""
    if name in UNGUARDED:
        return
    team = builder.load(cgutils.add_global_variable(builder.module, I64, "nl_team"))
    with builder.if_then(builder.icmp_signed("!=", team, I64(0)), likely=False):
        kind = ir.FunctionType(I32, [I64.as_pointer(), I64, I64, I64])
        enter = cgutils.get_or_insert_function(builder.module, kind, "rt_enter")
        who = cpu if name in PARALLEL else I64(-1)
        arguments = [words_of(builder), team, builder.ptrtoint(data, I64), who]
        said = builder.call(enter, arguments)
        with builder.if_then(builder.icmp_signed("!=", said, I32(0)), likely=False):
            builder.ret(I64(ENDED))


def end_call(builder: Any, name: str) -> None:
    """The end of what begin_call() began."""
    if name in UNGUARDED:
        return
    with builder.if_then(builder.icmp_signed("!=", _mode(builder), I64(0)), likely=False):
        kind = ir.FunctionType(I32, [I64.as_pointer()])
        leave = cgutils.get_or_insert_function(builder.module, kind, "rt_leave")
        builder.call(leave, [words_of(builder)])

# SPDX-License-Identifier: GPL-2.0-only
"""Compiled loops that can be ended: every turn of every loop counts.

A guest can bend a free list into a ring, and a compiled call that follows it cannot be interrupted
by Python. So each call from outside has a *control block* on the stack of its door, and every loop
takes one turn off it before it begins again. When SLICE turns are spent, `engine_runtime` asks
whether the call shall go on. Python's main thread answers through a callback (`long_calls`), in
which signal handlers run as they would between two instructions of the interpreter; other threads
look at a word that anybody may set. A call that is ended unwinds through all its callers with
RETCODE_ENDED.

The control block takes the place of the slot for exception details in Numba's calling convention,
of which these functions have none, and so reaches every function without another argument.

    word 0 Numba's slot    1 turns left in this slice    2 slices spent    3-5 see `engine_locks`
"""

from __future__ import annotations

from copy import copy
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, compiler
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.callconv import CPUCallConv, excinfo_ptr_t
from numba.core.compiler_machinery import register_pass
from numba.core.cpu import CPUContext
from numba.core.lowering import Lower
from numba.core.typed_passes import (
    BaseNativeLowering,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from .engine_runtime import CONTROL_WORDS, MODE, SLICE, SPENT, TURNS

ENDED_STATUS = 2
I32, I64 = ir.IntType(32), ir.IntType(64)
RETCODE_ENDED = I32(ENDED_STATUS)


class ControlCallConv(CPUCallConv):  # type: ignore[misc]
    """Numba's calling convention, handing the caller's control block on."""

    def call_function(
        self, builder: Any, callee: Any, resty: Any, argtys: Any, args: Any, attrs: Any = None
    ) -> Any:
        """Calls `callee`; (status, value)."""
        result = cgutils.alloca_once(builder, self.get_return_type(resty).pointee)
        builder.store(cgutils.get_null_value(result.type.pointee), result)
        packed = self._get_arg_packer(argtys).as_arguments(builder, args)
        code = builder.call(callee, [result, control(builder), *packed], attrs=attrs or ())
        status = self._get_return_status(builder, code, ir.Constant(excinfo_ptr_t, ir.Undefined))
        return status, self.context.get_returned_value(builder, resty, builder.load(result))

    def return_status_propagate(self, builder: Any, status: Any) -> None:
        """Hands a callee's error on: there are no details to go with it."""
        builder.ret(status.code)


class ControlContext(CPUContext):  # type: ignore[misc]
    """Numba's target, but for its calling convention."""

    @property
    def call_conv(self) -> ControlCallConv:
        """How functions call each other."""
        return ControlCallConv(self)


def control_context(context: CPUContext) -> ControlContext:
    """A target that is `context` in everything but the calling convention."""
    own: Any = copy(context)
    own.__class__ = ControlContext
    return cast(ControlContext, own)


def control(builder: Any) -> Any:
    """The control block of the call that runs the function being built."""
    function = builder.function
    own = getattr(function, "control_block", None)
    return function.args[1] if own is None else own


def new_control(builder: Any) -> None:
    """A door's control block: from here on the function being built hands this one on."""
    block = builder.alloca(ir.ArrayType(I64, CONTROL_WORDS))
    words = builder.bitcast(block, I64.as_pointer())
    builder.store(I64(SLICE), builder.gep(words, [I64(TURNS)]))
    for word in (SPENT, MODE):
        builder.store(I64(0), builder.gep(words, [I64(word)]))
    builder.function.control_block = builder.bitcast(words, excinfo_ptr_t.as_pointer())


def spend_turn(builder: Any) -> None:
    """Takes a turn off the call's slice; leaves the function if that was the last."""
    words = builder.bitcast(control(builder), I64.as_pointer())
    at = builder.gep(words, [I64(TURNS)], inbounds=True)
    left = builder.sub(builder.load(at), I64(1))
    builder.store(left, at)
    with builder.if_then(builder.icmp_signed("<", left, I64(0)), likely=False):
        ask = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(I32, [I64.as_pointer()]), "rt_slice_spent"
        )
        ended = builder.icmp_signed("!=", builder.call(ask, [words]), I32(0))
        with builder.if_then(ended, likely=False):
            builder.ret(RETCODE_ENDED)


NEEDED = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
)
"""The passes of Numba that hot functions go through."""


class TurnLower(Lower):  # type: ignore[misc]
    """Lowers a function with a turn spent before each jump back to the head of a loop."""

    def lower_inst(self, inst: Any) -> None:
        """One step of a block; the last one may be a jump back."""
        if inst is self._cur_ir_block.terminator and id(self._cur_ir_block) in self._jumps_back():
            spend_turn(self.builder)
        super().lower_inst(inst)

    def _jumps_back(self) -> set[int]:
        if not hasattr(self, "_back"):
            flow = compute_cfg_from_blocks(self.blocks)
            self._back = {
                id(self.blocks[before])
                for loop in flow.loops().values()
                for before, _ in flow.predecessors(loop.header)
                if before in loop.body
            }
        return self._back


@register_pass(mutates_CFG=True, analysis_only=False)
class TurnLowering(BaseNativeLowering):  # type: ignore[misc]
    """Numba's lowering pass with TurnLower."""

    _name = "numalab_lowering"

    @property
    def lowering_class(self) -> Any:
        """The class that lowers."""
        return TurnLower


def lean_pipeline(state: Any, lowering: Any) -> list[Any]:
    """Numba's pipeline of no more than the hot functions need: they have no closures, no literals
    to be unrolled, nothing to be inlined by Numba."""
    manager = compiler.DefaultPassBuilder.define_nopython_pipeline(state)
    manager.passes = [
        (lowering if step is NativeLowering else step, text)
        for step, text in manager.passes
        if step in NEEDED
    ]
    manager.finalize()
    return [manager]


class PlainCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """For functions without turns."""

    def define_pipelines(self) -> list[Any]:
        """The one pipeline."""
        return lean_pipeline(self.state, NativeLowering)


class TurnCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """The same with TurnLowering in the place of Numba's lowering pass."""

    def define_pipelines(self) -> list[Any]:
        """The one pipeline."""
        return lean_pipeline(self.state, TurnLowering)

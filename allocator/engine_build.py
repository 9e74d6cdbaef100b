# SPDX-License-Identifier: GPL-2.0-only
"""The compiler's half of the compiled engine: hot functions through Numba to LLVM bitcode.

Run in a process of its own by `engine_cache` (`python -m allocator.engine_build OUT NAME...`), for
a part of the hot functions each, so that parts are compiled side by side. Numba types and lowers
every function once, for the signature that its annotations give, and does nothing else: no wrappers
for the interpreter, no optimisation. Calls between hot functions are plain symbols, resolved when
`engine_cache` links the parts; LLVM then sees the whole hot path at once and optimises it once.

A word array is a Numba type of our own, `words`: address and length of the 64-bit words. Indexing
is checked against the length and fails as in the interpreter, with an error that every caller hands
on (but an index below 0 is an error here: it never counts from the end).

Each entry point `f` also gets `x_f`, which C can call: a pointer to {address, length} for every
word array, 64-bit integers for the rest; its result is a 64-bit integer, FAILED if an index was out
of range, ENDED if somebody ended the call, which every loop allows (`engine_turns`) but those of
`compiled_forms`, whose ends no word of RAM decides.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, compiler, funcdesc
from numba.core.callconv import RETCODE_USEREXC
from numba.core.registry import cpu_target
from numba.core.typing.templates import (
    AbstractTemplate,
    infer_global,
    make_concrete_template,
    signature,
)
from numba.extending import lower_builtin, models, register_model

from .compiled_forms import COMPILED_FORMS
from .engine import ENDED, ENTRY_POINTS, FAILED, hot_functions, python_calls
from .engine_locks import LOCKING, begin_call, end_call
from .engine_turns import (
    RETCODE_ENDED,
    PlainCompiler,
    TurnCompiler,
    control_context,
    new_control,
)

SYMBOL = "nl_{}".format
EXPORT = "x_{}".format
I64 = ir.IntType(64)


class WordsType(types.Type):  # type: ignore[misc]
    """The type of a word array."""

    def __init__(self) -> None:
        super().__init__("words")


words_type = WordsType()
TYPES = {
    "memoryview": words_type,
    "int": types.int64,
    "bool": types.boolean,
    "None": types.none,
    "tuple[int, int]": types.UniTuple(types.int64, 2),
    "tuple[int, int, int]": types.UniTuple(types.int64, 3),
}


@register_model(WordsType)
class WordsModel(models.StructModel):  # type: ignore[misc]
    """Address and number of the words."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        fields = [("data", types.CPointer(types.int64)), ("nwords", types.int64)]
        super().__init__(dmm, fe_type, fields)


@infer_global(operator.getitem)
class GetWords(AbstractTemplate):  # type: ignore[misc]
    """`m[i]` and `m[a:b]`."""

    def generic(self, args: Any, kws: Any) -> Any:  # noqa: ARG002
        """The signature for these argument types, None if they are not ours."""
        if isinstance(args[0], WordsType):
            if isinstance(args[1], types.Integer):
                return signature(types.int64, words_type, types.int64)
            if isinstance(args[1], types.SliceType):
                return signature(words_type, words_type, types.slice2_type)
        return None


@infer_global(operator.setitem)
class SetWords(AbstractTemplate):  # type: ignore[misc]
    """`m[i] = x` and `m[a:b] = m[c:d]`."""

    def generic(self, args: Any, kws: Any) -> Any:  # noqa: ARG002
        """The signature for these argument types, None if they are not ours."""
        if isinstance(args[0], WordsType):
            if isinstance(args[1], types.Integer):
                return signature(types.none, words_type, types.int64, types.int64)
            if isinstance(args[1], types.SliceType):
                return signature(types.none, words_type, types.slice2_type, words_type)
        return None


@infer_global(len)
class LenWords(AbstractTemplate):  # type: ignore[misc]
    """`len(m)`."""

    def generic(self, args: Any, kws: Any) -> Any:  # noqa: ARG002
        """The signature for these argument types, None if they are not ours."""
        if len(args) == 1 and isinstance(args[0], WordsType):
            return signature(types.int64, words_type)
        return None


def _fail_if(builder: Any, bad: Any) -> None:
    """Leaves the function with the interpreter's IndexError where `bad`."""
    with builder.if_then(bad, likely=False):
        builder.ret(RETCODE_USEREXC)


def _words(context: Any, builder: Any, value: Any = None) -> Any:
    return cgutils.create_struct_proxy(words_type)(context, builder, value=value)


def _place(context: Any, builder: Any, words: Any, index: Any) -> Any:
    """Pointer to word `index`, which must exist; unsigned, so that one comparison does it."""
    array = _words(context, builder, words)
    _fail_if(builder, builder.icmp_unsigned(">=", index, array.nwords))
    return builder.gep(array.data, [index], inbounds=True)


@lower_builtin(operator.getitem, WordsType, types.Integer)  # type: ignore[untyped-decorator]
def _get_word(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return builder.load(_place(context, builder, args[0], args[1]))


@lower_builtin(operator.setitem, WordsType, types.Integer, types.Integer)  # type: ignore[untyped-decorator]
def _set_word(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    builder.store(args[2], _place(context, builder, args[0], args[1]))
    return context.get_dummy_value()


@lower_builtin(operator.getitem, WordsType, types.SliceType)  # type: ignore[untyped-decorator]
def _get_slice(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    array = _words(context, builder, args[0])
    part = cgutils.create_struct_proxy(types.slice2_type)(context, builder, value=args[1])
    beyond = builder.icmp_unsigned(">", part.stop, array.nwords)
    _fail_if(builder, builder.or_(beyond, builder.icmp_unsigned(">", part.start, part.stop)))
    view = _words(context, builder)
    view.data = builder.gep(array.data, [part.start])
    view.nwords = builder.sub(part.stop, part.start)
    return view._getvalue()


@lower_builtin(operator.setitem, WordsType, types.SliceType, WordsType)  # type: ignore[untyped-decorator]
def _set_slice(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    target = _words(context, builder, _get_slice(context, builder, sig, args[:2]))
    source = _words(context, builder, args[2])
    _fail_if(builder, builder.icmp_unsigned("!=", source.nwords, target.nwords))
    cgutils.raw_memmove(builder, target.data, source.data, source.nwords, 8)
    return context.get_dummy_value()


@lower_builtin(len, WordsType)  # type: ignore[untyped-decorator]
def _length(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _words(context, builder, args[0]).nwords


def types_of(function: FunctionType) -> tuple[tuple[Any, ...], Any]:
    """Numba types of the arguments and of the result, from the annotations."""
    code = function.__code__
    notes = function.__annotations__
    return tuple(TYPES[notes[n]] for n in code.co_varnames[: code.co_argcount]), TYPES[
        notes["return"]
    ]


def remember_calls(typing: Any) -> None:
    """Makes a typing context look up only once what an operator or a hot function gives for some
    types: Numba would try all that it knows of an operator, NumPy's rules as well, for each use."""
    known: dict[Any, Any] = {}
    resolve = typing.resolve_function_type

    def resolve_function_type(func: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(a, (types.Integer, types.Boolean, WordsType)) for a in args):
            return resolve(func, args, kws)
        args = tuple(types.unliteral(a) for a in args)
        if (func, args) not in known:
            known[func, args] = resolve(func, args, kws)
        return known[func, args]

    typing.resolve_function_type = resolve_function_type


class PartCompiler:
    """Compiles some of the hot functions; all of them are known by signature and symbol."""

    def __init__(self, functions: Mapping[str, FunctionType]) -> None:
        self.functions = functions
        self.typing = cpu_target.typing_context
        self.target = control_context(cpu_target.target_context)
        self.typing.refresh()
        remember_calls(self.typing)
        self.target.refresh()
        self.flags = compiler.Flags()
        self.flags.no_compile = True
        self.flags.no_cpython_wrapper = True
        self.flags.no_cfunc_wrapper = True
        self.flags.error_model = "numpy"
        self.helpers: dict[Any, str] = {}
        """Numba's own helpers (max, min, `in`) that were needed: library -> LLVM assembly."""
        self.python = python_calls()
        self.descriptors = {name: self._declare(name) for name in (*functions, *self.python)}

    def _declare(self, name: str) -> Any:
        """Lets Numba know a hot function that may be compiled elsewhere or later."""
        function = self.python.get(name) or self.functions[name]
        arguments, result = types_of(function)

        def mangle(*_: Any, **__: Any) -> str:
            return SYMBOL(name)

        described = funcdesc.PythonFunctionDescriptor(
            True,
            "numalab",
            name,
            name,
            "",
            {},
            result,
            {},
            function.__code__.co_varnames[: len(arguments)],
            (),
            mangler=mangle,
            argtypes=arguments,
        )
        self.target.insert_user_function(function, described)
        template = make_concrete_template(name, function, [signature(result, *arguments)])
        self.typing.insert_user_function(function, template)
        return described

    def compile(self, name: str) -> list[str]:
        """LLVM assembly of one function, and of its door for C if it is an entry point."""
        if name in self.python:
            return [self._python_door(name)]
        if name in LOCKING:
            return [self._locking(name)]
        arguments, result = types_of(self.functions[name])
        found: list[Any] = []
        library = self.target.codegen().create_library(name)
        library.add_ir_module = found.append
        library.add_linking_library = self._need
        done = compiler.compile_extra(
            self.typing,
            self.target,
            COMPILED_FORMS.get(name, self.functions[name]),
            arguments,
            result,
            self.flags,
            {},
            library=library,
            pipeline_class=PlainCompiler if name in COMPILED_FORMS else TurnCompiler,
        )
        texts = [str(found[0]).replace(done.fndesc.mangled_name, SYMBOL(name))]
        if name in ENTRY_POINTS:
            texts.append(self._door(name, arguments, result))
        return texts

    def _need(self, library: Any) -> None:
        if library not in self.helpers:
            self.helpers[library] = str(library._get_module_for_linking())

    def _locking(self, name: str) -> str:
        """A function of `spinlock`."""
        arguments, result = types_of(self.functions[name])
        module = self.target.codegen().create_library(SYMBOL(name)).create_ir_module(name)
        function = self.target.declare_function(module, self.descriptors[name])
        builder = ir.IRBuilder(function.append_basic_block())
        values = self.target.call_conv.decode_arguments(builder, arguments, function)

        def place(words: Any, index: Any) -> Any:
            return _place(self.target, builder, words, index)

        value = LOCKING[name](builder, place, values)
        if result is types.none:
            value = self.target.get_dummy_value()
        self.target.call_conv.return_value(builder, value)
        return str(module)

    def _python_door(self, name: str) -> str:
        """A function that calls Python through the word nl_py_NAME (`cold_calls`)."""
        arguments, _ = types_of(self.python[name])
        module = self.target.codegen().create_library(SYMBOL(name)).create_ir_module(name)
        function = self.target.declare_function(module, self.descriptors[name])
        builder = ir.IRBuilder(function.append_basic_block())
        values = self.target.call_conv.decode_arguments(builder, arguments, function)
        words = _words(self.target, builder, values[0])
        passed = [builder.ptrtoint(words.data, I64), words.nwords, *values[1:]]
        pointer = ir.GlobalVariable(module, I64, f"nl_py_{name}")
        pointer.initializer = I64(0)
        kind = ir.FunctionType(I64, [I64] * len(passed)).as_pointer()
        value = builder.call(builder.inttoptr(builder.load(pointer), kind), passed)
        _fail_if(builder, builder.icmp_signed("==", value, I64(FAILED)))
        self.target.call_conv.return_value(builder, value)
        return str(module).replace(self.descriptors[name].mangled_name, SYMBOL(name))

    def _door(self, name: str, arguments: tuple[Any, ...], result: Any) -> str:
        """The function that C calls for an entry point."""
        module = self.target.codegen().create_library(EXPORT(name)).create_ir_module(name)
        inner = self.target.declare_function(module, self.descriptors[name])
        array = self.target.get_value_type(words_type)
        kinds = [array.as_pointer() if a is words_type else I64 for a in arguments]
        door = ir.Function(module, ir.FunctionType(I64, kinds), EXPORT(name))
        builder = ir.IRBuilder(door.append_basic_block())
        new_control(builder)
        names = self.functions[name].__code__.co_varnames[: len(arguments)]
        values = []
        for kind, value in zip(arguments, door.args, strict=True):
            if kind is words_type:
                value = builder.load(value)
            elif kind is types.boolean:
                value = builder.icmp_signed("!=", value, I64(0))
            values.append(value)
        cpu = values[names.index("cpu")] if "cpu" in names else I64(-1)
        begin_call(builder, name, _words(self.target, builder, values[0]).data, cpu)
        status, value = self.target.call_conv.call_function(
            builder, inner, result, arguments, values
        )
        end_call(builder, name)
        with builder.if_then(status.is_error, likely=False):
            ended = builder.icmp_signed("==", status.code, RETCODE_ENDED)
            builder.ret(builder.select(ended, I64(ENDED), I64(FAILED)))
        if result is types.boolean:
            value = builder.zext(value, I64)
        builder.ret(I64(0) if result is types.none else value)
        return str(module)


def compile_part(names: list[str], progress: Callable[[str], None]) -> bytes:
    """Bitcode of the named hot functions; `progress` hears of each that is done."""
    part = PartCompiler(hot_functions())
    texts: list[str] = []
    for name in names:
        texts += part.compile(name)
        progress(name)
    whole, *others = [binding.parse_assembly(text) for text in [*texts, *part.helpers.values()]]
    for other in others:
        whole.link_in(other)
    bitcode: bytes = whole.as_bitcode()
    return bitcode


def main(arguments: list[str]) -> None:
    """OUT NAME...: writes the bitcode to OUT; a line on standard output for every function."""
    out, *names = arguments
    Path(out).write_bytes(compile_part(names, lambda name: print("compiled", name, flush=True)))


if __name__ == "__main__":
    main(sys.argv[1:])

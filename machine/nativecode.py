# SPDX-License-Identifier: GPL-2.0-only
"""Gets the native routines (`nativeir`) ready: machine code, and where this Unicorn keeps things.

A child process makes both once per host and version (`nativeprobe`): it compiles the routines with
LLVM, finds out where the installed Unicorn keeps the few fields that they need, and compares what
comes of it with Unicorn's own counting. Whatever goes wrong there goes wrong in the child. What it
found is kept in the user's cache directory, under a digest of all that it depends on; the code
refers to nothing outside itself, so that later processes map it and are done.

`load` answers None where there is no such thing: no `llvmlite`, no x86-64, another Unicorn, no
memory that may be executed. `counting` then takes the plain engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import platform
import sys
from dataclasses import astuple, dataclass
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import unicorn
from unicorn.unicorn_py3.unicorn import uclib

from machine import walk
from machine.nativeir import FUNCTIONS, SOURCE

SECONDS = 120.0
"""The child's time; it takes about one second on an idle host."""
_WALK: Any = (walk.in_ram, walk.walk, walk.walk_tables, walk.walk_two_levels)
_SOURCES = ("nativecode", "nativeprobe", "counting", "engine", "exchange", "walk", "wordcode")
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from machine.nativeprobe import main; main()"


@dataclass(frozen=True)
class Layout:
    """Where Unicorn keeps what the routines and `counting` need, in bytes: from the start of a
    block's description to its code; of the pointer to the CPU in the engine's struct; of the field
    in the CPU that limits the next block. `atomic`: 1 if that field also makes locked
    instructions atomic for engines in other threads."""

    tb_head: int
    cpu: int
    next_block: int
    atomic: int = 0


@dataclass(frozen=True)
class Native:
    """Addresses of the routines by name, for as long as the process lives, and the layout."""

    routines: dict[str, int]
    layout: Layout


@dataclass(frozen=True)
class Made:
    """What the child makes: machine code, where in it the routines begin, and the layout."""

    code: bytes
    functions: dict[str, int]
    layout: Layout | None
    """None: this Unicorn is not one that can be counted on."""

    def to_json(self) -> str:
        """As text, with a digest that tells a damaged one."""
        layout = None if self.layout is None else astuple(self.layout)
        kept = {"functions": self.functions, "layout": layout, "code": self.code.hex()}
        return json.dumps(kept | {"digest": _digest(json.dumps(kept))})

    @classmethod
    def from_json(cls, text: str) -> Made:
        """What `to_json` gave. Raises `ValueError` for anything else."""
        try:
            kept = json.loads(text)
            digest = kept.pop("digest")
            if digest != _digest(json.dumps(kept)):
                raise ValueError("digest")
            functions = {name: int(kept["functions"][name]) for name in FUNCTIONS}
            layout = None if kept["layout"] is None else Layout(*map(int, kept["layout"]))
            return cls(bytes.fromhex(kept["code"]), functions, layout)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not native code: {error!r}") from None


@cache
def load() -> Native | None:
    """The routines, mapped into this process, and the layout; None where there can be none."""
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "fork"):
        return None
    if util.find_spec("llvmlite") is None or util.find_spec("elftools") is None:
        return None
    name = f"native-{_key()}.json"
    made = _from_disk(name)
    if made is None:
        made = _from_child()
        if made is not None:
            _keep(name, made)
    if made is None or made.layout is None:
        return None
    base = map_code(made.code)
    if not base:
        return None
    return Native({name: base + offset for name, offset in made.functions.items()}, made.layout)


def map_code(code: bytes) -> int:
    """Address of `code`, mapped to be executed for as long as the process lives; 0 when the host
    does not allow that."""
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        area = mmap.mmap(-1, len(code), flags, mmap.PROT_READ | mmap.PROT_WRITE)
        area[:] = code
        pin = ctypes.c_char.from_buffer(area)
        address = ctypes.addressof(pin)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(address, len(code), mmap.PROT_READ | mmap.PROT_EXEC):
            return 0
    except (OSError, AttributeError):
        return 0
    _mapped.append(pin)
    return address


_mapped: list[Any] = []


def compile_source() -> tuple[bytes, dict[str, int]]:
    """The machine code of `nativeir.SOURCE` and of the page walk, and where in it the routines
    begin (bytes). Raises `ValueError` if it depends on anything outside itself."""
    import io

    import llvmlite.binding as llvm
    from elftools.elf.elffile import ELFFile

    from machine.wordcode import compile_functions

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(SOURCE + compile_functions(_WALK, ["walk"]))
    module.verify()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(opt=3, reloc="pic", codemodel="small")
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    elf = ELFFile(io.BytesIO(machine.emit_object(module)))
    if elf.get_section_by_name(".rela.text") is not None:
        raise ValueError("native code refers to something outside itself")
    code = elf.get_section_by_name(".text").data()
    symbols = elf.get_section_by_name(".symtab")
    found = {symbol.name: int(symbol["st_value"]) for symbol in symbols.iter_symbols()}
    return code, {name: found[name] for name in FUNCTIONS}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key() -> str:
    """What the child's findings depend on: the routines, the ways of finding, and the library."""
    here = Path(__file__).parent
    library = os.stat(uclib._name)
    known = [unicorn.__version__, uclib._name, str(library.st_size), str(library.st_mtime_ns)]
    known += [(here / f"{name}.py").read_text() for name in _SOURCES]
    return _digest("\0".join([SOURCE, *known]))[:24]


def _directories() -> list[Path]:
    """Where the findings may be kept, best first."""
    import tempfile

    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(home) / "numalab", Path(tempfile.gettempdir()) / f"numalab-{os.getuid()}"]


def _trusted(directory: Path) -> bool:
    """True if `directory` is this user's own and nobody else can write there: what lies in it will
    be executed."""
    try:
        known = directory.lstat()
    except OSError:
        return False
    own = known.st_uid == os.getuid() and not known.st_mode & 0o022
    return own and directory.is_dir() and not directory.is_symlink()


def _from_disk(name: str) -> Made | None:
    for directory in _directories():
        if _trusted(directory):
            with contextlib.suppress(OSError, ValueError):
                return Made.from_json((directory / name).read_text("ascii"))
    return None


def _keep(name: str, made: Made) -> None:
    """Write a cache file whole. One that cannot be written is no error."""
    for directory in _directories():
        with contextlib.suppress(OSError):
            directory.mkdir(0o700, parents=True, exist_ok=True)
            if not _trusted(directory):
                continue
            part = directory / f"{name}.{os.getpid()}"
            part.write_text(made.to_json(), "ascii")
            part.replace(directory / name)
            return


def _from_child() -> Made | None:
    """Let a child process make it; None when that came to no end, or to a bad one."""
    import subprocess

    if not sys.executable:
        return None
    command = [sys.executable, "-I", "-S", "-c", _CHILD, *map(os.path.abspath, sys.path)]
    try:
        said = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
        )
        return Made.from_json(said.stdout.decode("ascii"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

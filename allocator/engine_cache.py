# SPDX-License-Identifier: GPL-2.0-only
"""Compiled code on disk: made once, found again by a digest of all that went into it.

One file holds the machine code of the whole hot path: a checksum line, then an ELF object. Its name
has a digest of the hot sources, of the constants that they use, of this compiler, of the versions
of Python, Numba and llvmlite and of the host's CPU; what does not match is not found, what is
damaged fails its checksum and is made again. It appears whole or not at all, and processes that
want it at the same time wait for the first of them. It lies in the user's cache directory, or in
one below the system's for temporary files where that cannot be written.

Making it: `engine_build` in two child processes (Numba), then link, optimise, emit (LLVM) here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from ctypes import CFUNCTYPE, c_int64
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

from llvmlite import binding

from machine import BringUpError, OutputError

from .engine import CONSTANT_MODULES, ENTRY_POINTS, HOT_MODULES, reachable
from .engine_runtime import runtime

MAGIC = b"numalab hot path "
COMPILER = (
    "cold_calls",
    "compiled_forms",
    "engine",
    "engine_build",
    "engine_cache",
    "engine_locks",
    "engine_runtime",
    "engine_turns",
)
"""What makes the code, apart from the hot modules themselves."""
PROCESSES = 2
KEPT = 4
"""Compiled versions that are kept; older ones go when a new one is made."""
Progress = Callable[[int, int], None]


def host_cpu() -> tuple[str, str]:
    """The host's CPU and its features, as LLVM names them."""
    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def source_of(name: str) -> Path:
    """The source of the hot or cold module `name`: one of this package, or by its full name."""
    package = Path(__file__).parent
    place = package.parent.joinpath(*name.split(".")) if "." in name else package / name
    return place.with_suffix(".py")


def digest() -> str:
    """What the compiled code depends on, in 24 hexadecimal digits."""
    known = hashlib.sha256()
    for name in (*HOT_MODULES, *CONSTANT_MODULES, *COMPILER):
        known.update(name.encode() + b"\0" + source_of(name).read_bytes())
    parts = (version("numba"), version("llvmlite"), platform.python_version(), *host_cpu())
    known.update("\0".join(parts).encode())
    return known.hexdigest()[:24]


def cache_directories() -> list[Path]:
    """Where compiled code may be, best first."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(home) / "numalab", Path(tempfile.gettempdir()) / f"numalab-{os.getuid()}"]


def trusted(directory: Path) -> bool:
    """True if `directory` is this user's own and nobody else can write there."""
    try:
        known = directory.lstat()
    except OSError:
        return False
    own = known.st_uid == os.getuid() and not known.st_mode & 0o022
    return own and directory.is_dir() and not directory.is_symlink()


def find(name: str) -> bytes | None:
    """The object code in the cache file `name`, None if it is nowhere or damaged."""
    for directory in cache_directories():
        if trusted(directory):
            with contextlib.suppress(OSError):
                content = (directory / name).read_bytes()
                head, _, code = content.partition(b"\n")
                if head == MAGIC + hashlib.sha256(code).hexdigest().encode():
                    return code
    return None


def writable_directory() -> Path:
    """The first of the cache directories that can be written. Raises OutputError."""
    for directory in cache_directories():
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if trusted(directory) and os.access(directory, os.W_OK | os.X_OK):
                return directory
    tried = " nor ".join(map(str, cache_directories()))
    raise OutputError(f"compiled code can be kept neither in {tried}")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else makes compiled code in `directory` meanwhile."""
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def store(directory: Path, name: str, code: bytes) -> None:
    """Writes a cache file whole, and removes the oldest if there are too many."""
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
        try:
            file.write(MAGIC + hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
            file.flush()
            os.replace(file.name, directory / name)
        except BaseException:
            os.unlink(file.name)
            raise
    found = sorted(directory.glob("hot-*.o"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in found[KEPT:]:
        old.unlink(missing_ok=True)


def object_code(functions: Mapping[str, FunctionType]) -> bytes:
    """Machine code of the entry points and all that they call, from the cache or made now.

    Raises:
        BringUpError: the hot path does not compile with the Numba that is installed.
        OutputError: there is no place to keep it.
    """
    name = f"hot-{digest()}.o"
    code = find(name)
    if code is None:
        directory = writable_directory()
        with locked(directory):
            code = find(name)
            if code is None:
                with told_progress(sys.stderr) as progress:
                    code = build(functions, progress)
                store(directory, name, code)
    return code


def _silent(done: int, total: int) -> None:
    """Progress that nobody sees."""


@contextlib.contextmanager
def told_progress(stream: Any) -> Iterator[Progress]:
    """Tells on `stream` what takes so long: a line, and a bar where that is a terminal."""
    if stream is None:
        yield _silent
        return
    print("numalab: compiling the allocator, once for this version...", file=stream, flush=True)
    if not stream.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("compiling", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def partition(functions: Mapping[str, FunctionType], names: list[str]) -> list[list[str]]:
    """The names in PROCESSES parts of about the same amount of code."""
    parts: list[list[str]] = [[] for _ in range(PROCESSES)]
    sizes = [0] * PROCESSES
    weights = {n: len(functions[n].__code__.co_code) if n in functions else 0 for n in names}
    for name in sorted(names, key=lambda n: (-weights[n], n)):
        least = sizes.index(min(sizes))
        parts[least].append(name)
        sizes[least] += weights[name]
    return parts


def build(functions: Mapping[str, FunctionType], progress: Progress) -> bytes:
    """Compiles the hot path; its object code. Raises BringUpError."""
    names = reachable(functions, ENTRY_POINTS)
    # not all of sys.path: what pytest and the like put there may hide the standard library
    here = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = dict(os.environ, NUMBA_OPT="0", PYTHONPATH=os.pathsep.join(here))
    done = [0]
    with tempfile.TemporaryDirectory() as folder:
        children, readers = [], []
        for i, part in enumerate(partition(functions, names)):
            command = [sys.executable, "-m", f"{__package__}.engine_build", f"{folder}/{i}", *part]
            child = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            said: list[str] = []
            reader = threading.Thread(
                target=_listen, args=(child, said, done, len(names), progress)
            )
            reader.start()
            children.append((child, said))
            readers.append(reader)
        try:
            for reader in readers:
                reader.join()
        except BaseException:
            for child, _ in children:
                child.kill()
            raise
        finally:
            codes = [child.wait() for child, _ in children]
        for code, (_, said) in zip(codes, children, strict=True):
            if code:
                why = said[-1] if said else f"the compiler ended with {code}"
                raise BringUpError(
                    f"the hot path does not compile (numba {version('numba')}): {why}"
                )
        parts = [(Path(folder) / str(i)).read_bytes() for i in range(len(children))]
    return link(parts)


def _listen(
    child: subprocess.Popen[str], said: list[str], done: list[int], total: int, progress: Progress
) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("compiled "):
            done[0] += 1
            progress(done[0], total)
        elif line.strip():
            said.append(line.strip())


def target_machine() -> Any:
    """LLVM's description of this host for code that is loaded into this process."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    cpu, features = host_cpu()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="default", jit=True
    )


def link(parts: list[bytes]) -> bytes:
    """One object of all parts, optimised as a whole; only the doors for C stay visible."""
    machine = target_machine()
    whole, *others = [binding.parse_bitcode(part) for part in parts]
    for other in (*others, binding.parse_assembly(runtime())):
        whole.link_in(other)
    for function in whole.functions:
        if not function.is_declaration and not function.name.startswith("x_"):
            function.linkage = "internal"
    options = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(whole, builder)
    code: bytes = machine.emit_object(whole)
    return code


class Code:
    """Machine code in this process, alive as long as this object is."""

    def __init__(self, code: bytes) -> None:
        machine = target_machine()
        self._jit = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._jit.add_object_file(binding.ObjectFileRef.from_data(code))
        self._jit.finalize_object()

    def address(self, name: str) -> int:
        """Address of the door for C of entry point `name`."""
        found: int = self._jit.get_function_address(f"x_{name}")
        if not found:
            raise BringUpError(f"compiled code has no function {name}")
        return found

    def word(self, name: str) -> c_int64:
        """A word of the runtime (`engine_runtime`), to be read and set."""
        found: int = self._jit.get_global_value_address(name)
        if not found:
            raise BringUpError(f"compiled code has no word {name}")
        return c_int64.from_address(found)

    def this_thread(self) -> int:
        """The calling thread, as compiled code names it."""
        name: int = CFUNCTYPE(c_int64)(self.address("this_thread"))()
        return name


def load_code(code: bytes) -> Code:
    """Loads what `object_code` returned."""
    return Code(code)

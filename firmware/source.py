# SPDX-License-Identifier: GPL-2.0-only
"""A boot script's text with its includes pulled in, and where every line came from.

LLVM's assembler looks for `.include` files only in the current directory, so they are pulled in
here: first from the directory of the file that asks, then from the script's, then from
`firmware/scripts/include` of the installed package. The result is one text; `Source.origin` turns a
line of it back into file and line, which is what error messages are made of. `.incbin` names are
looked up the same way and made absolute.

Directives inside comments and strings are left alone. A file that is not found is left to LLVM,
which complains only if the directive is not inside a false `.if`. So is a name made up by a macro;
such a script is not `cacheable`, because what it depends on is not known here."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from machine.errors import ImageError, InputError

INCLUDE_DIR = Path(__file__).resolve().parent / "scripts" / "include"
"""Where `numalab.inc` and the other includes that come with the package lie."""

MAX_SOURCE = 16 << 20
"""Bytes of a script with all its includes."""

MAX_BINARY = 64 << 20
"""Bytes of a file named by `.incbin`."""

MAX_INCLUDES = 4096
"""Includes of one script, each as often as it is pulled in."""

MAX_DEPTH = 64

_TOKEN = re.compile(
    rb'"(?:\\.|[^"\\\n])*"'
    rb"|'(?:\\.|[^\\\n])"
    rb"|/\*.*?(?:\*/|\Z)"
    rb"|//[^\n]*|\#[^\n]*"
    rb'|(?<![\w.$@])\.(?P<kind>include|incbin)[ \t]+"(?P<name>[^"\\\n]+)"'
    rb"|(?P<odd>\.inc(?:lude|bin)\b|\.inc\w*\\)",
    re.DOTALL,
)
_PREPROCESSOR = re.compile(rb'^[ \t]*(#(?:include[ \t]*["<]|define[ \t]+\w))', re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int


@dataclass
class Source:
    """`lines` of assembly and the `origin` of each; `name` is what messages call the script."""

    name: str
    directory: Path
    lines: list[bytes] = field(default_factory=list)
    origins: list[Place] = field(default_factory=list)
    cacheable: bool = True
    _binaries: list[bytes] = field(default_factory=list)
    _size: int = 0
    _includes: int = 0

    @property
    def text(self) -> bytes:
        """All lines, as the assembler gets them."""
        return b"\n".join(self.lines) + b"\n"

    def origin(self, line: int) -> Place:
        """Where line `line` (from 1) of the text came from; lines past the end are the last's."""
        return self.origins[max(0, min(line, len(self.origins)) - 1)]

    def find_word(self, word: str) -> tuple[Place, int] | None:
        """Place and column (from 1) of the first use of `word` outside comments."""
        pattern = re.compile(rb"(?<![\w.$@])" + re.escape(word.encode()) + rb"(?![\w$]|\s*:)")
        for line, place in zip(self.lines, self.origins, strict=True):
            match = pattern.search(re.split(rb"\#|//", line, maxsplit=1)[0])
            if match:
                return place, match.start() + 1
        return None

    def digest(self) -> bytes:
        """SHA-256 over everything the object file depends on."""
        total = hashlib.sha256(self.text)
        for content_hash in self._binaries:
            total.update(content_hash)
        return total.digest()

    def add_line(self, line: bytes, place: Place) -> None:
        """Append one line. Raises `ImageError` when the whole has become too large."""
        self._size += len(line) + 1
        if self._size > MAX_SOURCE:
            raise ImageError(
                f"{place.file}:{place.line}: more than {MAX_SOURCE >> 20} MiB of source"
            )
        self.lines.append(line)
        self.origins.append(place)

    def count_include(self, where: str) -> None:
        """Note one more include. Raises `ImageError` when there are too many."""
        self._includes += 1
        if self._includes > MAX_INCLUDES:
            raise ImageError(f"{where}: more than {MAX_INCLUDES} includes in all")

    def add_binary(self, content: bytes) -> None:
        """Note the content of an `.incbin` file."""
        self._binaries.append(hashlib.sha256(content).digest())


def read_file(path: Path, limit: int, what: str = "file") -> bytes:
    """The content of a regular file. Raises `InputError` when it is missing, unreadable, or no
    regular file, `ImageError` when it is larger than `limit` bytes."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for somebody to write into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError(f"{path}: not a regular file")
            with open(handle, "rb", closefd=False) as stream:
                data = stream.read(limit + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: {reason or error}") from None
    if len(data) > limit:
        raise ImageError(f"{path}: {what} is larger than {limit >> 20} MiB")
    return data


def read_source(path: Path) -> Source:
    """The script at `path` with its includes. Raises `InputError`, `ImageError`."""
    return expand(read_file(path, MAX_SOURCE, "script"), str(path), path.parent)


def expand(text: bytes, name: str, directory: Path) -> Source:
    """`text`, called `name` in messages, with its includes, looked up from `directory`.

    Raises `ImageError` with file, line and column for an include that contains itself, is no
    readable regular file, or makes the whole too large."""
    source = Source(name, directory)
    _expand_into(source, text, name, directory, ())
    return source


def _expand_into(
    source: Source, text: bytes, name: str, directory: Path, stack: tuple[Path, ...]
) -> None:
    """Append the lines of `text`, a file called `name` in `directory`; `stack` are the includes it
    is inside of."""
    _check_text(text, name)
    line, done = 1, 0
    pending = b""
    for match in _TOKEN.finditer(text):
        kind = match["kind"]
        if match["odd"]:
            source.cacheable = False
        if not kind:
            continue
        line, pending = _add(source, name, line, pending, text[done : match.start()])
        done = match.end()
        wanted = os.fsdecode(match["name"])
        path = _look_up(wanted, (directory, source.directory, INCLUDE_DIR))
        where = f"{name}:{line}:{len(pending) + 1}"
        if path is None:
            source.cacheable = False
            pending += match[0]
            continue
        source.count_include(where)
        if kind == b"incbin":
            source.add_binary(_read_included(path, where, MAX_BINARY))
            quoted = os.fsencode(path.absolute()).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            pending += b'.incbin "' + quoted + b'"'
        else:
            identity = path.resolve()
            if identity in stack or len(stack) >= MAX_DEPTH:
                raise ImageError(f"{where}: '{wanted}' includes itself")
            content = _read_included(path, where, MAX_SOURCE)
            if pending.strip():
                source.add_line(pending, Place(name, line))
            _expand_into(source, content, str(path), path.parent, (*stack, identity))
            # What follows on the line keeps its columns.
            pending = b" " * (len(pending) + len(match[0]))
    _, pending = _add(source, name, line, pending, text[done:])
    if pending.strip():
        source.add_line(pending, Place(name, line + text[done:].count(b"\n")))


def _add(source: Source, name: str, line: int, pending: bytes, text: bytes) -> tuple[int, bytes]:
    """Append the whole lines of `pending + text`, which begin at `line`; what is behind the last
    newline is given back with its line number."""
    *whole, rest = text.split(b"\n")
    if not whole:
        return line, pending + rest
    whole[0] = pending + whole[0]
    for number, content in enumerate(whole, line):
        source.add_line(content, Place(name, number))
    return line + len(whole), rest


def _check_text(text: bytes, name: str) -> None:
    """Refuse what the assembler would misread without a word."""
    zero = text.find(b"\0")
    if zero >= 0:
        line = text.count(b"\n", 0, zero) + 1
        column = zero - text.rfind(b"\n", 0, zero)
        raise ImageError(f"{name}:{line}:{column}: zero byte, this is not a text file")
    match = _PREPROCESSOR.search(text)
    if match:
        line = text.count(b"\n", 0, match.start(1)) + 1
        raise ImageError(f"{name}:{line}:1: C preprocessor lines are comments here: .include, .set")


def _look_up(wanted: str, directories: tuple[Path, ...]) -> Path | None:
    """The first existing file `wanted` along `directories`."""
    for directory in directories:
        path = directory / wanted
        try:
            if path.exists():
                return path
        except (OSError, ValueError):
            continue
    return None


def _read_included(path: Path, where: str, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except (InputError, ImageError) as error:
        raise ImageError(f"{where}: {error}") from None

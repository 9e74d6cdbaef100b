# SPDX-License-Identifier: GPL-2.0-only
"""The NUMA topology of a PC: which node has how much RAM and which CPUs, and how far apart they
are.

A topology is written in QEMU's own words (`node,nodeid=0,cpus=0-1,mem=128M`,
`dist,src=0,dst=1,val=20`), in the short form `2x128M`, or as TOML (see
`Topology.from_toml`). It is frozen and checked when made: whoever holds one holds a machine that
can exist.

From the nodes' sizes follow the physical addresses, and they follow QEMU 7.2 (hw/i386/pc_piix.c,
pc_q35.c, pc.c): RAM fills up from 0 in node order, jumps over the PCI hole below 4 GiB, and starts
at 1 TiB instead of 4 GiB when it would reach AMD's HyperTransport range. The machine asks for banks
and CPUs here, the firmware for the SRAT, SLIT and e820 map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from machine.errors import InputError, TopologyError

if TYPE_CHECKING:
    from os import PathLike

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MAX_NODES = 64
MAX_CPUS = 256
MAX_RAM = 4 * TIB
MIN_RAM = 32 * MIB
LOCAL_DISTANCE, REMOTE_DISTANCE, MAX_DISTANCE = 10, 20, 254

FOUR_GIB = 4 * GIB
AMD_HT_START, AMD_HT_END = 0xFD_0000_0000, 0x100_0000_0000
"""The HyperTransport range below 1 TiB that QEMU keeps RAM and the 64-bit PCI window out of."""

_PCI_HOLE64 = {"pc": 2 * GIB, "q35": 32 * GIB}
_UNITS = {"B": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?([BKMGT]?)", re.IGNORECASE)
_SHORT = re.compile(r"(\d{1,6})x([^,]+)((?:,[^,]*)*)")


@dataclass(frozen=True)
class Node:
    """One NUMA node: `mem` bytes of RAM (may be 0) and the ids of its CPUs (may be none)."""

    nid: int
    mem: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class RamRange:
    """Physical bytes [start, end) of RAM that belong to node `nid`."""

    start: int
    end: int
    nid: int


@dataclass(frozen=True)
class Topology:
    """Nodes 0..n-1 in order, `distances[from][to]` as a SLIT gives them, and the board ("pc" is
    i440fx, "q35"). Raises `TopologyError` when no such machine can exist."""

    nodes: tuple[Node, ...]
    distances: tuple[tuple[int, ...], ...] = ()
    machine_type: str = "pc"

    def __post_init__(self) -> None:
        if not self.distances and self.nodes:
            object.__setattr__(self, "distances", _default_distances(len(self.nodes)))
        if self.machine_type not in _PCI_HOLE64:
            raise TopologyError(f"machine type '{self.machine_type}': pc or q35 expected")
        _check_nodes(self.nodes)
        _check_distances(self.distances, len(self.nodes))

    @classmethod
    def parse(
        cls,
        *specs: str,
        machine_type: str = "pc",
        distances: Sequence[Sequence[int]] | None = None,
    ) -> Topology:
        """A topology from QEMU `-numa` arguments or the short form, in any number of strings.

        Sizes without a unit are MiB, as QEMU's. `NxSIZE` gives each node one CPU, `NxSIZE,cpus=K`
        K of them. `distances` is the whole matrix and excludes `dist` arguments. Raises
        `TopologyError` quoting the argument."""
        nodes: list[Node] = []
        short = ""
        given: dict[tuple[int, int], int] = {}
        for spec in specs:
            kind, _, rest = spec.strip().partition(",")
            if kind == "node":
                nodes.append(_parse_node(spec, rest, len(nodes)))
            elif kind == "dist":
                source, target, value = _parse_dist(spec, rest)
                if (source, target) in given:
                    raise TopologyError(f"'{spec}': distance {source} to {target} is given twice")
                given[source, target] = value
            else:
                short = spec
                nodes += _parse_short(spec)
        if short and len(nodes) > len(_parse_short(short)):
            raise TopologyError(f"'{short}': the short form describes the whole machine")
        return cls._assemble(nodes, given, distances, machine_type)

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Topology:
        """A topology from a TOML file: `machine = "pc"`, then `[[node]]` tables with `nodeid`
        (default: next), `mem` ("128M" or MiB) and `cpus` ("0-1" or a list), then either
        `distances = [[10, 20], [20, 10]]` at the top or `[[dist]]` tables (`src`, `dst`, `val`);
        instead of nodes `numa = "2x128M"` or a list of QEMU arguments.

        Raises `InputError` for a file that cannot be read, `TopologyError` for what it says."""
        import tomllib

        try:
            text = Path(path).read_bytes().decode()
            table = tomllib.loads(text)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise TopologyError(f"{path}: {error}") from None
        try:
            return cls._from_table(table)
        except TopologyError as error:
            raise TopologyError(f"{path}: {error}") from None

    @classmethod
    def _from_table(cls, table: dict[str, object]) -> Topology:
        for key in table:
            if key not in ("machine", "node", "dist", "distances", "numa"):
                raise TopologyError(f"unknown key '{key}'")
        machine_type = table.get("machine", "pc")
        if not isinstance(machine_type, str):
            raise TopologyError("machine: a string expected")
        matrix = table.get("distances")
        if matrix is not None and not _is_matrix(matrix):
            raise TopologyError("distances: a list of lists of whole numbers expected")
        numa = table.get("numa", [])
        specs = [numa] if isinstance(numa, str) else numa
        if not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
            raise TopologyError("numa: a string or a list of strings expected")
        for kind in ("node", "dist"):
            entries = table.get(kind, [])
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise TopologyError(f"{kind}: tables [[{kind}]] expected")
            specs = specs + [_table_spec(kind, entry) for entry in entries]
        distances = matrix if isinstance(matrix, list) else None
        return cls.parse(*specs, machine_type=machine_type, distances=distances)

    @classmethod
    def _assemble(
        cls,
        nodes: list[Node],
        given: dict[tuple[int, int], int],
        matrix: Sequence[Sequence[int]] | None,
        machine_type: str,
    ) -> Topology:
        ordered = tuple(sorted(nodes, key=lambda node: node.nid))
        _check_nodes(ordered)
        if matrix is not None and given:
            raise TopologyError("distances are given both as a matrix and as 'dist' arguments")
        if matrix is not None:
            distances = tuple(tuple(row) for row in matrix)
        else:
            distances = _complete_distances(given, len(ordered))
        return cls(ordered, distances, machine_type)

    @property
    def specs(self) -> tuple[str, ...]:
        """The topology in QEMU's words; `parse(*specs, machine_type=...)` gives it back."""
        out = []
        for node in self.nodes:
            cpus = "".join(f",cpus={span}" for span in _spans(node.cpus))
            out.append(f"node,nodeid={node.nid}{cpus},mem={node.mem}B")
        for source, row in enumerate(self.distances):
            for target, value in enumerate(row):
                if source != target:
                    out.append(f"dist,src={source},dst={target},val={value}")
        return tuple(out)

    @cached_property
    def ram_size(self) -> int:
        """Bytes of RAM in all nodes."""
        return sum(node.mem for node in self.nodes)

    @cached_property
    def below_4g(self) -> int:
        """Bytes of RAM below 4 GiB, where low RAM ends (pc_init1(), pc_q35_init())."""
        if self.machine_type == "q35":
            limit = 0x8000_0000 if self.ram_size >= 0xB000_0000 else 0xB000_0000
        else:
            limit = 0xC000_0000 if self.ram_size >= 0xE000_0000 else 0xE000_0000
        return min(self.ram_size, limit)

    @property
    def above_4g(self) -> int:
        """Bytes of RAM that did not fit below 4 GiB."""
        return self.ram_size - self.below_4g

    @cached_property
    def above_4g_start(self) -> int:
        """Physical address where the rest of RAM starts: 4 GiB, or 1 TiB when RAM and the 64-bit
        PCI window behind it would reach HyperTransport's range
        (pc_set_amd_above_4g_mem_start())."""
        window = -(-(FOUR_GIB + self.above_4g) // GIB) * GIB
        reaches = window + _PCI_HOLE64[self.machine_type] - 1 >= AMD_HT_START
        return AMD_HT_END if reaches else FOUR_GIB

    @cached_property
    def cpus(self) -> int:
        """Number of CPUs; their ids are 0..cpus-1."""
        return sum(len(node.cpus) for node in self.nodes)

    @cached_property
    def cpu_node(self) -> tuple[int, ...]:
        """Node id of every CPU."""
        owner = {cpu: node.nid for node in self.nodes for cpu in node.cpus}
        return tuple(owner[cpu] for cpu in range(self.cpus))

    @cached_property
    def ram_ranges(self) -> tuple[RamRange, ...]:
        """Physical RAM in ascending order; a node that straddles the PCI hole has two ranges."""
        out: list[RamRange] = []
        cursor = 0
        for node in self.nodes:
            left = node.mem
            while left:
                if cursor == self.below_4g:
                    cursor = self.above_4g_start
                room = self.below_4g - cursor if cursor < self.below_4g else left
                piece = min(left, room)
                out.append(RamRange(cursor, cursor + piece, node.nid))
                cursor += piece
                left -= piece
        return tuple(out)


def parse_size(text: str) -> int:
    """Bytes in QEMU's notation of a size: `128M`, `1.5G`, `4096B`; a bare number is MiB.

    Raises `TopologyError`."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise TopologyError(f"'{text}' is not a size (128M, 1.5G)")
    unit = _UNITS[match[3].upper() or "M"]
    fraction = match[2] or ""
    scaled = int(match[1] + fraction) * unit
    size, rest = divmod(scaled, int("1" + "0" * len(fraction)))
    if rest:
        raise TopologyError(f"'{text}' is not a whole number of bytes")
    return size


def _default_distances(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(LOCAL_DISTANCE if a == b else REMOTE_DISTANCE for b in range(count))
        for a in range(count)
    )


def _number(spec: str, key: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise TopologyError(f"'{spec}': {key}={text} is not a number")
    return int(text)


def _options(spec: str, rest: str, known: Iterable[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if key not in known or not equals or not value:
            raise TopologyError(f"'{spec}': '{item}' is not understood")
        if key != "cpus" and any(key == other for other, _ in pairs):
            raise TopologyError(f"'{spec}': {key} is given twice")
        pairs.append((key, value))
    return pairs


def _parse_cpus(spec: str, text: str) -> list[int]:
    first, dash, last = text.partition("-")
    low = _number(spec, "cpus", first)
    high = _number(spec, "cpus", last) if dash else low
    if high < low or high >= MAX_CPUS:
        raise TopologyError(f"'{spec}': cpus={text} is not a range of CPU ids below {MAX_CPUS}")
    return list(range(low, high + 1))


def _spec_size(spec: str, text: str) -> int:
    try:
        return parse_size(text)
    except TopologyError as error:
        raise TopologyError(f"'{spec}': {error}") from None


def _parse_node(spec: str, rest: str, position: int) -> Node:
    nid, mem, cpus = position, 0, list[int]()
    for key, value in _options(spec, rest, ("nodeid", "mem", "cpus")):
        if key == "nodeid":
            nid = _number(spec, key, value)
        elif key == "mem":
            mem = _spec_size(spec, value)
        else:
            cpus += _parse_cpus(spec, value)
    return Node(nid, mem, tuple(sorted(cpus)))


def _parse_dist(spec: str, rest: str) -> tuple[int, int, int]:
    values = {key: _number(spec, key, v) for key, v in _options(spec, rest, ("src", "dst", "val"))}
    if len(values) != 3:
        raise TopologyError(f"'{spec}': src, dst and val are all needed")
    return values["src"], values["dst"], values["val"]


def _parse_short(spec: str) -> list[Node]:
    match = _SHORT.fullmatch(spec.strip())
    if not match:
        raise TopologyError(f"'{spec}': expected node,..., dist,... or the short form 2x128M")
    count = int(match[1])
    mem = _spec_size(spec, match[2])
    each = 1
    for _, value in _options(spec, match[3][1:], ("cpus",)):
        each = _number(spec, "cpus", value)
    if not 1 <= count <= MAX_NODES:
        raise TopologyError(f"'{spec}': 1 to {MAX_NODES} nodes expected")
    if not 1 <= each * count <= MAX_CPUS:
        raise TopologyError(f"'{spec}': 1 to {MAX_CPUS} CPUs in all expected")
    return [Node(n, mem, tuple(range(n * each, (n + 1) * each))) for n in range(count)]


def _table_spec(kind: str, entry: dict[str, object]) -> str:
    """A `[[node]]` or `[[dist]]` table as the QEMU argument that says the same."""
    items = [kind]
    for key, value in entry.items():
        values = value if key == "cpus" and isinstance(value, list) else [value]
        for item in values:
            if isinstance(item, bool) or not isinstance(item, (int, str)) or "," in str(item):
                raise TopologyError(f"{kind}: {key} = {item!r} is not understood")
            items.append(f"{key}={item}")
    return ",".join(items)


def _is_matrix(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and all(type(cell) is int for cell in row) for row in value
    )


def _spans(cpus: tuple[int, ...]) -> list[str]:
    spans: list[list[int]] = []
    for cpu in cpus:
        if spans and spans[-1][1] + 1 == cpu:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return [f"{low}-{high}" if high > low else f"{low}" for low, high in spans]


def _check_nodes(nodes: tuple[Node, ...]) -> None:
    if not nodes:
        raise TopologyError("the machine has no NUMA node")
    if len(nodes) > MAX_NODES:
        raise TopologyError(f"{len(nodes)} nodes, at most {MAX_NODES} are possible")
    owner: dict[int, int] = {}
    for position, node in enumerate(nodes):
        if position and nodes[position - 1].nid == node.nid:
            raise TopologyError(f"node {node.nid} is described twice")
        if node.nid != position:
            raise TopologyError(f"node {position} is missing: ids go from 0 without gaps")
        if node.mem < 0 or node.mem % 4096:
            raise TopologyError(f"node {node.nid}: {node.mem} bytes is not a whole number of pages")
        for cpu in node.cpus:
            if cpu in owner:
                raise TopologyError(f"CPU {cpu} is in node {owner[cpu]} and in node {node.nid}")
            owner[cpu] = node.nid
    if not owner:
        raise TopologyError("no node has a CPU")
    if len(owner) > MAX_CPUS:
        raise TopologyError(f"{len(owner)} CPUs, at most {MAX_CPUS} are possible")
    for cpu in range(len(owner)):
        if cpu not in owner:
            raise TopologyError(f"CPU {cpu} is missing: ids go from 0 without gaps")
    total = sum(node.mem for node in nodes)
    if total < MIN_RAM:
        raise TopologyError(f"{total // KIB} KiB of RAM in all, at least 32 MiB are needed")
    if total > MAX_RAM:
        raise TopologyError(f"{total // GIB} GiB of RAM in all, at most 4 TiB are possible")


def _check_distances(distances: tuple[tuple[int, ...], ...], count: int) -> None:
    if len(distances) != count or any(len(row) != count for row in distances):
        raise TopologyError(f"distances: a {count} by {count} matrix is needed")
    for a, row in enumerate(distances):
        for b, value in enumerate(row):
            if a == b and value != LOCAL_DISTANCE:
                raise TopologyError(f"distance of node {a} to itself is {value}, must be 10")
            if a != b and not LOCAL_DISTANCE < value <= MAX_DISTANCE:
                raise TopologyError(f"distance {a} to {b} is {value}, must be 11 to 254")


def _complete_distances(
    given: dict[tuple[int, int], int], count: int
) -> tuple[tuple[int, ...], ...]:
    """Fill in what QEMU fills in (validate_numa_distance(), complete_init_numa_distance())."""
    if not given:
        return _default_distances(count)
    for source, target in given:
        if source >= count or target >= count:
            raise TopologyError(f"distance {source} to {target}: there are {count} nodes")
    full = {(node, node): LOCAL_DISTANCE for node in range(count)} | given
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    lopsided = any(
        (a, b) in given and (b, a) in given and given[a, b] != given[b, a] for a, b in pairs
    )
    for a, b in pairs:
        if (a, b) in given:
            continue
        if (b, a) not in given:
            raise TopologyError(f"distance {a} to {b} is not given in either direction")
        if lopsided:
            raise TopologyError(f"distance {a} to {b} is needed: some pair is not symmetric")
        full[a, b] = given[b, a]
    return tuple(tuple(full[a, b] for b in range(count)) for a in range(count))

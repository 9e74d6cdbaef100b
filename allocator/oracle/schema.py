# SPDX-License-Identifier: GPL-2.0-only
"""What the JSON files of a recording must look like, checked before anything is used.

A small language of types: a Python type or tuple of types for a value, a one-element list for a
list of that, a dict for an object with at least these keys (a key ending in `?` may be missing),
`Each` for an object with any keys, `Row` for a list that begins with these types. `check` walks
both and names the place of the first contradiction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from machine.errors import ImageError


@dataclass(frozen=True)
class Each:
    """An object of any keys whose values are all alike."""

    value: Any


@dataclass(frozen=True)
class Row:
    """A list of at least these elements."""

    cells: tuple[Any, ...]


@dataclass(frozen=True)
class Maybe:
    """The given thing or null."""

    value: Any


INT = int
RANGES = [Row((INT, INT))]
PCP = {
    "cpu": INT,
    "online": INT,
    "count": INT,
    "high": INT,
    "batch": INT,
    "thr": INT,
    "expire": INT,
    "diff": [INT],
    "numa": [INT],
    "lists": Each([Row((INT, INT))]),
}
ZONE_SIZE = {
    "nid": INT,
    "zid": INT,
    "name": str,
    "start": INT,
    "spanned": INT,
    "present": INT,
    "managed": INT,
}
ZONE = ZONE_SIZE | {
    "min": INT,
    "low": INT,
    "high": INT,
    "hiatomic": INT,
    "contiguous": INT,
    "drift_mark": INT,
    "isolate": INT,
    "flags": INT,
    "lowmem": [INT],
    "stat": Each(INT),
    "numa": Each(INT),
    "pcp": [PCP],
    "free_area": [{"order": INT, "nr_free": INT, "lists": Each([INT])}],
    "pageblocks": Maybe({"start": INT, "types": str}),
    "reserved": RANGES,
    "lru": RANGES,
    "slab": RANGES,
    "compound": RANGES,
    "movable?": RANGES,
    "skip?": Maybe(str),
    "compact?": Maybe(Each(INT)),
}
GLOBALS = {
    "nr_cpu_ids": INT,
    "max_pfn": INT,
    "gfp_allowed_mask": INT,
    "min_free_kbytes": INT,
    "watermark_scale_factor": INT,
    "totalram": INT,
    "totalreserve": INT,
    "cpu": INT,
}
STATE = {
    "tag": str,
    "globals": GLOBALS,
    "cpus": [{"cpu": INT, "node": INT, "numa_node": INT, "online": INT}],
    "dist": Each(Each(INT)),
    "memblock?": Maybe(
        {
            "current_limit": INT,
            "bottom_up": INT,
            "memory": [Row((INT, INT, INT, INT))],
            "reserved": [Row((INT, INT, INT, INT))],
        }
    ),
    "nodes": [
        {
            "nid": INT,
            "start": INT,
            "spanned": INT,
            "present": INT,
            "nr_zones": INT,
            "has_cpu": INT,
            "zonelists": [[Row((INT, INT))]],
        }
    ],
    "zones": [ZONE_SIZE],
}
FULL_STATE = STATE | {"zones": [ZONE], "page_zone": [Row((INT, INT, INT, INT))]}
EVENT = Row((str,))
OP = {"op": str, "i": INT, "ev?": [EVENT]}
RUN = {
    "meta": {"run": INT, "kind": str, "cpu": INT, "early": INT, "before": str, "after": str},
    "ops": [OP],
    "clean": [OP],
}
TRACE = {"name": str, "events": [EVENT], "marks": [Row((INT, str))]}
FILE_REF = {"file": str}
INDEX = {
    "states": [{"tag": str, "file": str}],
    "runs": [{"file": str, "run": INT, "kind": str}],
    "traces?": [{"file": str, "name": str}],
    "ftrace_lines?": INT,
}


def kind_of(value: Any) -> str:
    """How a JSON value is called in a message."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def check(value: Any, schema: Any, where: str) -> None:
    """Raises ImageError, naming the place, unless `value` (parsed JSON) has the given shape."""
    if isinstance(schema, Maybe):
        if value is not None:
            check(value, schema.value, where)
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            raise ImageError(f"{where}: {kind_of(value)} where an object belongs")
        for key, inner in schema.items():
            name = key.removesuffix("?")
            if name in value:
                check(value[name], inner, f"{where}.{name}")
            elif name == key:
                raise ImageError(f"{where}: {name!r} is missing")
    elif isinstance(schema, Each):
        if not isinstance(value, dict):
            raise ImageError(f"{where}: {kind_of(value)} where an object belongs")
        for key, inner in value.items():
            check(inner, schema.value, f"{where}.{key}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            raise ImageError(f"{where}: {kind_of(value)} where a list belongs")
        element = schema[0]
        if element is INT:
            check_ints(value, where)
        else:
            for index, inner in enumerate(value):
                check(inner, element, f"{where}[{index}]")
    elif isinstance(schema, Row):
        if not isinstance(value, list) or len(value) < len(schema.cells):
            raise ImageError(f"{where}: not a list of {len(schema.cells)} or more")
        for cell, inner in zip(schema.cells, value, strict=False):
            if type(inner) is not cell:
                raise ImageError(f"{where}: {kind_of(inner)} in the wrong place")
    elif type(value) is not schema:
        wanted = "a number" if schema is INT else kind_of(schema())
        raise ImageError(f"{where}: {kind_of(value)} where {wanted} belongs")


def check_ints(values: list[Any], where: str) -> None:
    """Raises ImageError unless all values are whole numbers."""
    for index, value in enumerate(values):
        if type(value) is not int:
            raise ImageError(f"{where}[{index}]: {kind_of(value)} where a number belongs")

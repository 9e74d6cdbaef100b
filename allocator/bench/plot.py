# SPDX-License-Identifier: GPL-2.0-only
"""Rows as a picture: time by order for every shape, one line an engine and number of CPUs."""

from __future__ import annotations

import io
from collections.abc import Sequence

from machine import UsageError

from .rows import Row


def plot_png(rows: Sequence[Row]) -> bytes:
    """A PNG of all rows that have an order. Raises UsageError without matplotlib or such rows."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'numalab[plot]'") from None
    drawn = [one for one in rows if one.order >= 0 and one.unit == "ns"]
    if not drawn:
        raise UsageError("--plot has nothing to draw: run a shape")
    names = list(dict.fromkeys(one.bench for one in drawn))
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        lines: dict[tuple[str, int], list[Row]] = {}
        for one in drawn:
            if one.bench == name:
                lines.setdefault((one.engine, one.cpus), []).append(one)
        for (engine, cpus), points in lines.items():
            points = sorted(points, key=lambda point: point.order)
            orders = [point.order for point in points]
            (line,) = axes.plot(
                orders,
                [point.median for point in points],
                marker="o",
                label=f"{engine}, {cpus} CPU{'s' if cpus > 1 else ''}",
            )
            low, high = [point.min for point in points], [point.max for point in points]
            axes.fill_between(orders, low, high, alpha=0.2, color=line.get_color())
        axes.set_title(name)
        axes.set_xlabel("order")
        axes.set_ylabel("ns an operation")
        axes.set_yscale("log")
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": "numalab"})
    return picture.getvalue()

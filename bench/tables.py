"""How benchmarks print their tables."""

from __future__ import annotations

import sys


def table(title: str, head: list[str], rows: list[list]) -> None:
    """Columns as wide as their texts; None is a dash."""
    texts = [head, *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    print(f"\n{title}")
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    sys.stdout.flush()


def _cell(value) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)

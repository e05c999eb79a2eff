"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def table(heading: Sequence[object], rows: Iterable[Iterable[object]], left: int = 1) -> Iterator[str]:
    """Yield the lines of a table as `rows` come; columns after the first `left` are aligned to the right."""
    yield row(heading)
    yield f"|{'|'.join(['---'] * left + ['---:'] * (len(heading) - left))}|"
    yield from map(row, rows)


def row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"

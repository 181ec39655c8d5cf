"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Examples
    --------
    >>> print(markdown(["x", "y"], [["1", "2"]]))
    | x | y |
    |---|---|
    | 1 | 2 |
    """
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in (headers, *rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in escaped)
    return "\n".join([head, f"|{'---|' * len(headers)}", *body])

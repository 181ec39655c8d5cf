"""Tables as text."""

from __future__ import annotations

from nmfuse.io.tables import markdown


def test_markdown() -> None:
    assert markdown(["a", "b"], [["1", "2"], ["3", "4|5"]]).splitlines()[1:] == [
        "|---|---|",
        "| 1 | 2 |",
        r"| 3 | 4\|5 |",
    ]

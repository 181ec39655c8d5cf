"""Links within the repository lead to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "evaluation").glob("*.md"))
    if not {"gallery_built", "generated"} & set(page.parts)
)
LINK = re.compile(r"\]\(([^()\s]*)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def links_of(text: str) -> list[str]:
    """Return the targets of all links that stay within the repository."""
    return [link for link in LINK.findall(CODE.sub("", text)) if not re.match(r"[a-z]+:", link)]


def anchors_of(text: str) -> set[str]:
    """Return the anchors of all headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def missing_in(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    missing = []
    for link in links_of(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text(encoding="utf-8"))):
            missing.append(link)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert missing_in(page) == []


def test_every_page_is_reached_from_the_index() -> None:
    listed = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    names = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    pages = {name for name in names if not name.startswith(("design/", "generated/", "gallery_built/"))} - {"index"}
    assert {name for name in pages if f"\n{name}\n" not in listed} == set()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One: `two` (three)\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#one-two-three) [c](https://x.org/y) `[d](code.md)` [e](gone.md) [f](there.md#two)"
    )
    assert missing_in(page) == ["gone.md", "there.md#two"]

"""Links between the pack's own texts lead to files, and to headings, that are there."""

import re

import pytest
from support.paths import ROOT

PAGES = sorted(path.relative_to(ROOT).as_posix() for folder in (".", "benchmarks", "benchmarks/results", "web/docs")
               for path in (ROOT / folder).glob("*.md"))  # fmt: skip


def anchor(heading: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken(page, text):
    """Links of a text at `page` (a path in the repository) that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, part = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        if not target.exists():
            found.append(link)
        elif part:
            there = text if not file else target.read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", there, re.M)
            found += [link] * (part not in map(anchor, headings))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert broken(page, (ROOT / page).read_text(encoding="utf-8")) == []


def test_a_broken_link_is_seen():
    text = "# A page: its parts\n[a](README.md) [b](none.md) [c](#a-page-its-parts) [d](#none) [e](README.md#none)"
    assert broken("README.md", text) == ["none.md", "#none", "README.md#none"]

"""Writes the pages anew."""

from tests.docs_pages import DOCS, PAGES, page
from tests.readme_parts import read_all

made = read_all()
for name in PAGES:
    (DOCS / f"{name}.md").write_text(page(name, made), "utf-8")

"""What MkDocs does with this repository beside docs/: pages made from classes, and links to files outside of docs/.

A link is written as GitHub shows the repository: from docs/data.md, ``../results/reference/grid/README.md``. What is
linked to outside of docs/ becomes a part of the site, at the same place below its start: Markdown as a page, with the
files that it shows; sources as a page with the code; everything else as a file. A link to nothing is an error, and so
is a page that is not in ``nav``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import site_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Pages that may be missing: a navigation entry waits for them.
OPTIONAL = {"your_own_loop.md", "dashboards.md", "surprises.md"}
START = {"README.md": "index.md"}  # the repository's own start page is another one than the site's
CODE = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml", ".in": "text"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCED = re.compile(r"^(?:```.*?^```|~~~.*?^~~~)$", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation: ``methods/*`` stands for all pages of that folder; pages that are still to come go."""
    made = [*site_pages.pages(), *(f"results/reference/{x}/README.md" for x in site_pages.result_folders())]
    there = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")}

    def filled(entries: list[Any]) -> list[Any]:
        found: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                ((title, inner),) = entry.items()
                if isinstance(inner, list):
                    found.append({title: filled(inner)})
                elif inner not in OPTIONAL - there:
                    found.append(entry)
            elif entry.endswith("/*"):
                found += [{_name(path): path} for path in made if path.startswith(entry[:-1])]
            else:
                found.append(entry)
        return found

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from classes, and whatever pages link to outside of docs/."""
    for uri, text in site_pages.pages().items():
        files.append(File.generated(config, uri, content=text))
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        file = waiting.pop()
        for target in _targets(file.content_string, _repository_path(file.src_uri)):
            uri = _site_uri(target)
            if files.get_file_from_path(uri) is None:
                files.append(added := _added(config, target, uri, file.src_uri))
                waiting += [added] if added.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links, which are those of the repository, into links of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(_repository_path(here))

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        return posixpath.relpath(_site_uri(target), posixpath.dirname(here) or ".") + (match[2] or "")

    return _outside_of_code(markdown, lambda text: LINK.sub(link, text))


def _name(path: str) -> str:
    """What a page that is made is called in the navigation."""
    place = Path(path)
    return place.parent.name if place.name == "README.md" else place.stem


def _repository_path(uri: str) -> str:
    """Where a page of the site is, or would be, in the repository."""
    outside = (ROOT / uri).is_file() and not (ROOT / "docs" / uri).is_file()
    return uri if outside else f"docs/{uri}"


def _site_uri(path: str) -> str:
    """Where a file of the repository is among the sources of the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return START.get(path) or (f"{path}.md" if Path(path).suffix in CODE else path)


def _targets(markdown: str, path: str) -> list[str]:
    """The files of the repository that a page links to, outside of docs/."""
    found: list[str] = []

    def seen(text: str) -> str:
        found.extend(match[1] for match in LINK.finditer(text))
        return text

    _outside_of_code(markdown, seen)
    targets = [posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in found]
    return [target for target in targets if not target.startswith("docs/") and target not in START]


def _outside_of_code(markdown: str, change: Any) -> str:
    """Change a page but for its code blocks."""
    ends = [(match.start(), match.end()) for match in FENCED.finditer(markdown)]
    parts, at = [], 0
    for start, end in ends:
        parts += [change(markdown[at:start]), markdown[start:end]]
        at = end
    return "".join([*parts, change(markdown[at:])])


def _added(config: MkDocsConfig, path: str, uri: str, source: str) -> File:
    """A file of the repository as a part of the site. Raises PluginError where there is none."""
    place = ROOT / path
    if path.startswith("..") or not place.is_file():
        raise PluginError(f"{source}: the link to {path} leads to no file of this repository")
    language = CODE.get(place.suffix)
    if language:
        code = place.read_text("utf-8")
        fence = "`" * (1 + max(map(len, re.findall(r"`{2,}", code)), default=2))
        return File.generated(config, uri, content=f"# {path}\n\n{fence}{language}\n{code}{fence}\n")
    return File.generated(config, uri, abs_src_path=str(place))

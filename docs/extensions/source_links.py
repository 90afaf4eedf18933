"""Links from the pages to files outside of docs/: each such file, or folder, becomes a page of the site.

On GitHub [`name`](../trainers/cli.py#L86) leads to the file; on the site to `source/trainers/cli.py.html#L86`.
"""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

DOCS = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>(?:\.\./)+[\w./-]+)(?P<line>#L\d+)?\)")


def source_of(match: re.Match[str], page: Path) -> str | None:
    """The file that a link of a page leads to, from the repository's root; None for a page of docs/.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = (page.parent / match["path"]).resolve(strict=True)
    return None if path.is_relative_to(DOCS) else str(path.relative_to(DOCS.parent))


def to_source_pages(app: Any, name: str, content: list[str]) -> None:
    """Change the links of one page as it is read."""
    page, up = DOCS / f"{name}.md", "../" * name.count("/")

    def link(match: re.Match[str]) -> str:
        source = source_of(match, page)
        return (
            match[0]
            if source is None
            else f'<a href="{up}source/{source}.html{match["line"] or ""}">{match["text"]}</a>'
        )

    content[0] = LINK.sub(link, content[0])


def source_pages(app: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """A page for each file and folder that any page links to, and for each file of these folders."""
    pages = sorted(DOCS.rglob("*.md"))
    found = {source_of(match, page) for page in pages for match in LINK.finditer(page.read_text(encoding="utf-8"))}
    sources = {DOCS.parent / path for path in found if path is not None}
    sources |= {file for folder in sources if folder.is_dir() for file in folder.iterdir() if file.is_file()}
    for source in sorted(sources):
        path = str(source.relative_to(DOCS.parent))
        text = listing(source) if source.is_dir() else with_line_numbers(source.read_text(encoding="utf-8"), path)
        yield f"source/{path}", {"title": path, "body": f"<h1>{escape(path)}</h1>\n{text}"}, "page.html"


def listing(folder: Path) -> str:
    """The files of a folder as links to their pages, which lie in a folder of the same name."""
    names = sorted(escape(file.name) for file in folder.iterdir() if file.is_file())
    return "\n".join(["<ul>", *(f'<li><a href="{folder.name}/{name}.html">{name}</a></li>' for name in names), "</ul>"])


def with_line_numbers(code: str, path: str) -> str:
    """The code as HTML, in which `#L86` is line 86."""
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        lexer = TextLexer()
    html = highlight(code, lexer, HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True))
    return str(re.sub(r'((?:id|name)="|href="#)L-', r"\1L", html))


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", to_source_pages)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Links from the pages to files outside of docs/: each such file becomes a page of the site, with numbered lines.

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
    """A page for each file that any page links to."""
    pages = sorted(DOCS.rglob("*.md"))
    found = {source_of(match, page) for page in pages for match in LINK.finditer(page.read_text(encoding="utf-8"))}
    for path in sorted(path for path in found if path is not None):
        code = (DOCS.parent / path).read_text(encoding="utf-8")
        body = f"<h1>{escape(path)}</h1>\n{with_line_numbers(code, path)}"
        yield f"source/{path}", {"title": path, "body": body}, "page.html"


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

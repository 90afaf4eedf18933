"""The pages of docs/: none is missing, and what they quote of the code is there. `make docs` builds them."""

import ast
import doctest
import re
import textwrap
from pathlib import Path

import pytest

import modeling_data2vec
from modeling_data2vec import trainers

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md"]
BASH = re.compile(r"^```bash\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))


def test_each_public_name_has_its_place_in_the_reference():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    listed = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)$", text, flags=re.MULTILINE)
    public = {*modeling_data2vec.__all__, *trainers.__all__} - {"__version__"}
    assert sorted(listed) == sorted(public), "docs/api/*.md lists each public name once"


def test_each_page_is_in_the_index():
    index = (DOCS / "index.md").read_text()
    listed = {
        page
        for block in re.findall(r"```{toctree}\n(.*?)```", index, flags=re.DOTALL)
        for line in block.split()
        for page in DOCS.glob(f"{line}.md")
    }
    assert listed == {page for page in PAGES if page != DOCS / "index.md"}, "a toctree of docs/index.md lists each page"


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def anchors(page: Path) -> set[str]:
    """Those of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = [
        re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    ]
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings(page):
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        target = page.parent / path if path else page
        if target.suffix == ".md":
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_the_method_page_quotes_the_code():
    """Each block stands in the function or class of the last link before it."""
    import line_links

    text = (DOCS / "method.md").read_text()
    parts = re.split(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(parts) > 20
    where = None
    for before, quote in zip(parts[::2], parts[1::2], strict=False):
        where = ([where, *line_links.LINK.finditer(before)])[-1]
        path = DOCS / where["path"]
        lines = path.read_text().splitlines()
        node = next(node for name, node in definitions(path) if name == where["name"])
        code = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        # Comments between the lines of a quote may be left out.
        code = "\n".join(line for line in code.splitlines() if not line.strip().startswith("#"))
        indents = {re.match(r" *", line)[0] for line in code.splitlines()}
        assert any(textwrap.indent(quote, indent) in code + "\n" for indent in indents), f"{where['name']}:\n{quote}"


def definitions(path: Path) -> list[tuple[str, ast.AST]]:
    """Functions and classes of a file, methods by `Class.method`."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append((node.name, node))
            found += [(f"{node.name}.{one.name}", one) for one in node.body if isinstance(one, ast.FunctionDef)]
    return found


def messages() -> str:
    """All text in the code, formatted values as a line's end."""
    found = []
    for folder in ("trainers", "modeling_data2vec"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [one.value if isinstance(one, ast.Constant) else "\n" for one in node.values]
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_troubleshooting_quotes_messages():
    """In the code's own words, for people search for these; `...` stands for what differs each time."""
    quotes = re.findall(r"^> (.+)$", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE)
    said = messages()
    assert len(quotes) >= 10
    for quote in quotes:
        for part in quote.split("..."):
            assert part.strip(" ,") in said, quote


@pytest.mark.parametrize("name", ["docstrings", "source_links", "line_links"])
def test_extensions_do_what_they_show(name):
    assert doctest.testmod(__import__(name)).failed == 0


def test_docstrings_become_what_sphinx_reads():
    from docstrings import to_restructured_text

    lines = ["Take `x` as in [the paper](https://arxiv.org/abs/1):", "- one", "- two"]
    to_restructured_text(None, "function", "f", None, None, lines)
    assert lines == ["Take ``x`` as in `the paper <https://arxiv.org/abs/1>`__:", "", "- one", "- two"]


def test_links_to_code_lead_to_its_page_on_the_site():
    from source_links import to_source_pages, with_line_numbers

    content = ["[`run`](../../trainers/cli.py#L31), [data](../data.md), ![plan](../images/floor_plan.svg)"]
    to_source_pages(None, "api/data", content)
    assert content[0].startswith('<a href="../source/trainers/cli.py.html#L31">`run`</a>, [data](../data.md), ![plan]')
    assert 'id="L2"' in with_line_numbers("a = 1\nb = 2\n", "one.py")


def test_files_and_folders_that_are_linked_have_a_page_on_the_site():
    from source_links import source_pages

    pages = {name: context["body"] for name, context, _ in source_pages(None)}
    assert "run_pretrain" in pages["source/trainers/cli.py"]
    folder = "source/examples/objectives"
    for name in re.findall(r'href="objectives/([^"]+)\.html"', pages[folder]):
        assert f"{folder}/{name}" in pages


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_tests_and_targets_of_commands_are_there(page):
    for line in "\n".join(BASH.findall(page.read_text())).splitlines():
        for path in re.findall(r"(?:^|[\s;])((?:tests|benchmarks|examples|docs)/[\w./-]+)", line):
            assert (ROOT / path).exists(), line
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)", page.read_text()):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_each_target_has_a_rule():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert not [target for target in phony.split() if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)]

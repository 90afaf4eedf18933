"""How Sphinx builds the documentation site: `make docs` writes it to build/site."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from modeling_data2vec import __version__

project = "data2vec"
release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "mathml",
    "source_links",
]
exclude_patterns = ["extensions"]

html_theme = "furo"
html_title = f"data2vec {release}"
html_show_copyright = html_show_sphinx = False
html_copy_source = False
html_static_path = ["extensions/site.css", "extensions/sidebars.js"]
html_css_files = ["site.css"]
html_js_files = [("sidebars.js", {"defer": "defer"})]
html_math_renderer = "mathml"

# As on GitHub: links to headings, formulas between dollar signs.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_use_ivar = True  # attributes in docstrings are a list, not entries beside those that autodoc makes

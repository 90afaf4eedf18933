"""README without links to files, as a package index shows it, far from the repository. The rest is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

# Links and pictures that are absolute stay; the section "Read on" is nothing but links.
text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
text = re.sub(r"^## Read on\n.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
text = re.sub(r"^!\[[^\]]*\]\((?!https:)[^)]*\)\n.*?\n\n", "", text, flags=re.DOTALL | re.MULTILINE)  # with its caption
text = re.sub(r"\s?\((?:\[[^\]]*\]\((?!https:)[^)]*\)(?:, )?)+\)", "", text)  # "(how, more)"
text = re.sub(r"\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", text)

setup(long_description=text)

"""Sphinx configuration of the site: ``make html``, or ``tox run -e wheels,docs``.

The reference is made from the installed packages, never from the sources, so it shows the code that
users get. Every warning is an error (``-n -W``). Four extensions of our own add missing features:

- ``tested_examples``: the doctest builder runs every Python block of a Markdown page;
- ``reference``: keys of TypedDicts, aliases of types, and the public names of both;
- ``pictures``: SVGs that use the colours of the page, light or dark;
- ``page_frame``: descriptions for search engines, and the version and the file of each page.
"""

import re
import sys
from importlib.metadata import metadata
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from page_frame import repository_among, theme_links

project = "asgiref components"
author = "The maintainers of the asgiref components"
version = release = version_of("asgiref")
project_copyright = author
repository = repository_among(metadata("asgiref").get_all("Project-URL") or [])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "tested_examples",
    "reference",
    "pictures",
    "page_frame",
]
exclude_patterns = ["_build", "tests", "extensions", "requirements*.txt", ".pytest_cache"]
exclude_patterns += ["explanation/soak-results.md"]  # soak.md includes it

# A single word in backticks is a link if it is a public name, and code otherwise (for example the
# name of a parameter): see `reference`.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    # Types of private modules, which signatures of public names mention.
    ("py:.*", r"asgiref\.\w+\._.*"),
    # Names from the standard library and typing: there is no network to look them up.
    ("py:.*", r"(?!asgiref\b).*"),
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 72
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 3

# A page's code is a module named "page", because Django, for example, imports parts of it. The same
# module stands for each "Save this as `name.py`" of a page, so that later code can import from it.
SAVED = {
    name
    for path in Path(__file__).parent.rglob("*.md")
    for name in re.findall(r"Save this as `(\w+)\.py`", path.read_text("utf-8"))
}
doctest_global_setup = f"""
import sys, types

__name__ = "page"
sys.modules["page"] = types.ModuleType("page")


def _attribute_of_the_page(name, namespace=globals()):
    if name not in namespace:
        raise AttributeError(name)
    return namespace[name]


sys.modules["page"].__getattr__ = _attribute_of_the_page
sys.modules |= dict.fromkeys({sorted(SAVED)}, sys.modules["page"])
"""
trim_doctest_flags = True

html_theme = "furo"
templates_path = ["_templates"]
html_title = f"{project} {version}"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, **theme_links(repository)}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"

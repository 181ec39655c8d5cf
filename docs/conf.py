"""How the site is built: `make docs`."""

import os
import pkgutil
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import nmfuse

HERE = Path(__file__).parent
BUILT = ("generated", "gallery_built")  # written by the build, into this folder
SOURCE = "https://github.com/nmfuse/nmfuse/blob/main/"
NOT_OURS = "set_partial_fit_request"  # scikit-learn makes it, and links to its own pages
# public modules that list no names, among them the options of our own methods
WITHOUT_ALL = (
    "nmfuse.io.video", "nmfuse.methods.finish", "nmfuse.methods.learned", "nmfuse.methods.paper", "nmfuse.ops", "nmfuse.pyramids",
)  # fmt: skip

project = "nmfuse"
author = copyright = "the nmfuse developers"
release = nmfuse.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery"]
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # the docstrings say shapes and dtypes as well
numpydoc_show_class_members = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["ref.python"]  # nmfuse.Image and nmfuse.images.Image are one class
html_math_renderer = "mathml"  # by the browser itself: no script, no network
html_theme = "furo"
html_title = "nmfuse"
html_static_path = ["static"]
html_css_files = ["nmfuse.css"]
html_copy_source = False
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_built",
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "min_reported_time": 1e9,
    "matplotlib_animations": False,
}


def write_api(app):
    """Write a page for each public module: every name of its __all__, by its docstring."""
    folder = HERE / "generated"
    folder.mkdir(exist_ok=True)
    modules = ["nmfuse", *(module.name for module in pkgutil.iter_modules(nmfuse.__path__, "nmfuse."))]
    public = [name for name in modules if "._" not in name and hasattr(import_module(name), "__all__")]
    again = [name for name in public[1:] if set(import_module(name).__all__) <= set(nmfuse.__all__)]
    pages = sorted({*public, *WITHOUT_ALL} - {*again, "nmfuse.cli"})
    for name in pages:
        title = f"{name}\n{'=' * len(name)}\n\n"
        write_changed(
            folder / f"{name}.rst", f"{title}.. automodule:: {name}\n   :members:\n   :exclude-members: {NOT_OURS}\n"
        )
    listed = "\n".join(f"   {name}" for name in pages)
    title = "API\n===\n\nEvery public name, by its docstring.\n\n"
    write_changed(folder / "api.rst", f"{title}.. toctree::\n   :maxdepth: 1\n\n{listed}\n")


def write_changed(path, text):
    """Write a file unless it holds that text already, so that the page is not built again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def link_to_source(app, name, text):
    """Let links to files beside docs/ lead to the repository."""
    for folder in ("benchmarks", "evaluation"):
        text[0] = text[0].replace(f"](../{folder}", f"]({SOURCE}{folder}")


def write_math(writer, node):
    """Write a formula as MathML."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app):
    """Tell Sphinx of what is done here."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.connect("builder-inited", write_api, priority=100)
    app.connect("source-read", link_to_source)

"""Settings of Sphinx; `make docs` builds docs/_build/html."""

from typing import Any

import memae

project = "memae"
author = "The memae authors"
release = memae.__version__
html_title = f"memae {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"

myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def rejoin(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Puts a docstring of an attribute together again: napoleon takes its words before a colon for a type."""
    kept = [line for line in lines if line]
    if what in ("attribute", "data", "property") and len(kept) > 1 and kept[-1].startswith(":type: "):
        begin = kept.pop().removeprefix(":type: ")
        lines[:] = [f"{begin}: {kept[0]}", *kept[1:]]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", rejoin, priority=600)  # after napoleon

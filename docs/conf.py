"""How the site is built: ``make docs``. Every figure and number on it is made while it is built."""

import os
import sys
from pathlib import Path

import rot180

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ["PYTHONPATH"] = str(HERE / "_ext")  # for the kernels that run the pages

project = "rot180"
author = "The rot180 authors"
project_copyright = "The rot180 authors, BSD-3-Clause"
version = release = rot180.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "reference",
    "commands",
    "operators",
    "atlas_page",
]
exclude_patterns = ["_build", "_ext", "_static", "pictures/README.md"]
nitpicky = True

numfig = True  # equations are numbered by chapter
math_eqref_format = "({number})"

html_theme = "furo"
html_title = "rot180"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

nb_execution_mode = "inline"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {}
nb_eval_name_regex = r"^.+$"  # any expression may stand in a sentence

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 110
# What other libraries define; nothing is looked up on the internet while the site is built.
nitpick_ignore_regex = [
    ("py:.*", r"(np|numpy|torch|nn|fx|jaxtyping|collections|pathlib|sqlite3)\..*"),
    ("py:class", r"Any|Callable|Iterable|Iterator|Literal|Mapping|Path|Protocol|Sequence"),
    ("py:class", r"Bool|Float|Float16|Float64|Int|Int64|UInt8|NDArray|Tensor"),
]
copybutton_exclude = ".linenos, .gp, .go"

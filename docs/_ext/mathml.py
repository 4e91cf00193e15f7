"""Formulas as MathML, which browsers draw themselves: the site needs no scripts and no internet."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator


def _inline(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(page.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(page, node)
        page.body.append(f'<span class="eqno">({number})')
        page.add_permalink_ref(node, "Link to this equation")
        page.body.append("</span>")
    page.body.append(_mathml(node, as_block=True))
    page.body.append("</div>\n")
    raise nodes.SkipNode


def _mathml(node: nodes.Node, as_block: bool) -> str:
    try:
        # The operator's own star is so small that it looks like the asterisk of a convolution.
        return str(tex2mathml(node.astext(), as_block=as_block)).replace("⋆", "★")
    except MathError as error:
        raise ExtensionError(f"Cannot write as MathML: {node.astext()} ({error})") from error


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

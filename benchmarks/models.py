"""What is captured of other people's networks: one row a network.

All families of torchvision's convolutional classifiers, three of its segmentation networks and some
of timm's (where it is installed), untrained; EfficientNet-Lite0 with its weights. For each: steps;
rectifiers by kind, all of which were found and take the method's rule; steps that autograd carries
signals through on whole maps, and those of them for which only the gradient is defined; the first
layer whose units depend on the whole image; the self-checks (the captured network's output beside
the model's own; the adjoint identity of the linear steps); and how long it took to capture.

    python benchmarks/models.py [--names resnet50,...]
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch
import torchvision

import rot180

warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CLASSIFIERS = [
    "alexnet",
    "vgg16",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "squeezenet1_0",
    "squeezenet1_1",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "mnasnet1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "convnext_tiny",
]
SEGMENTATION = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
TIMM = [
    "timm:resnet50d",
    "timm:resnest14d",
    "timm:ecaresnet26t",
    "timm:dla34",
    "timm:hrnet_w18_small",
    "timm:ghostnet_100",
    "timm:cspresnet50",
    "timm:rexnet_100",
    "timm:tf_efficientnet_lite0",
    "timm:mobilenetv4_conv_small",
    "timm:convnextv2_atto",
    "timm:repvgg_a0",
    "timm:dpn68",
    "timm:nfnet_l0",
    "timm:xception41",
    "timm:inception_v4",
    "timm:selecsls42b",
    "timm:vovnet39a",
    "timm:hgnet_tiny",
]
LITE0 = "efficientnet-lite0 (real weights)"


def made(name: str) -> tuple[torch.nn.Module, int]:
    """Return a network and the side of its images."""
    torch.manual_seed(0)
    if name == LITE0:
        from tests.zoo import efficientnet_lite0

        return efficientnet_lite0(), 224
    if name.startswith("timm:"):
        import timm

        model = timm.create_model(name.removeprefix("timm:"))
        return model, model.default_cfg["input_size"][-1]
    given = {"weights_backbone": None} if name in SEGMENTATION else {}
    if name in ("googlenet", "inception_v3"):
        given["init_weights"] = False
    return torchvision.models.get_model(name, **given), 299 if name == "inception_v3" else 224


def row(name: str) -> str:
    """Capture a network and say what was found."""
    model, side = made(name)
    example = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    begun = time.perf_counter()
    try:
        report = rot180.report(rot180.capture(model, example))
    except rot180.Rot180Error as error:
        return f"{name:<34} refused: {error}"
    seconds = time.perf_counter() - begun
    rectifiers = ", ".join(f"{n} {kind}" for kind, n in report.rectifiers.items())
    whole = "none" if report.whole_from is None else report.whole_from[0]
    return (
        f"{name:<34} {sum(report.operators.values()):>5} {rectifiers:<34} "
        f"{len(report.fallbacks):>9} {len(report.gradient_only):>8} "
        f"{report.error:>7.0e} {report.adjoint_error:>7.0e} {seconds:>5.1f}  {whole}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", default="")
    asked = parser.parse_args()
    names = asked.names.split(",") if asked.names else [*CLASSIFIERS, *SEGMENTATION, LITE0, *TIMM]
    print(
        f"{'network':<34} {'steps':>5} {'rectifiers found':<34} {'fallbacks':>9} {'gradient':>8} "
        f"{'output':>7} {'adjoint':>7} {'s':>5}  whole image from"
    )
    for name in names:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()

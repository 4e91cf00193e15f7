"""Small networks that the tests capture, written in the ways that people write them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TwoConvolutions(nn.Module):
    """The reference case in small, with modules that Captum knows, each rectifier used once."""

    def __init__(self, channels: int = 3, size: int = 12) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.head = nn.Linear(8 * (size // 4) ** 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return self.head(torch.flatten(x, 1))


class Varied(nn.Module):
    """Strides, dilation, groups, batch norm, overlapping pools, dropout, a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d((3, 2), stride=(2, 1), ceil_mode=True),
            nn.Conv2d(12, 10, (2, 3), padding="same"),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 4)
        )
        self.forward(torch.zeros(1, 3, 21, 26))  # fixes the size of the lazy layer
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight, 0.5, 1)
                nn.init.normal_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


class Functional(nn.Module):
    """The same mathematics as :class:`TwoConvolutions`, functional and in place."""

    def __init__(self, twin: TwoConvolutions, rectify: Sequence[str]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = twin.conv1, twin.conv2, twin.head
        self.act = nn.ReLU(inplace=True)
        self.rectify = rectify

    def _rectified(self, x: Tensor, how: str) -> Tensor:
        match how:
            case "functional":
                return F.relu(x)
            case "inplace":
                return F.relu_(x)
            case "module":
                return self.act(x)
            case "clamp":
                return x.clamp(min=0)
            case _:
                return torch.clamp_min(x, 0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self._rectified(self.conv1(x), self.rectify[0]), 2)
        x = F.max_pool2d(self._rectified(self.conv2(x), self.rectify[1]), 2)
        return self.head(x.view(x.size(0), -1))


def seeded(model: type[nn.Module], *arguments: object, seed: int = 0) -> nn.Module:
    """Make a model in float64 whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model(*arguments).double().eval()


def image(*shape: int, seed: int = 0) -> Tensor:
    """Draw a normal image in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value wanted."""
    assert found.shape == wanted.shape
    if not found.numel():
        return 0.0
    largest = wanted.detach().abs().max().clamp(min=torch.finfo(wanted.dtype).tiny)
    return float((found - wanted).detach().abs().max() / largest)

"""The reference network: two convolutions, each rectified and pooled, and a fully connected end."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rot180.errors import Rot180Error


class TwoLayer(nn.Module):
    """Two 5x5 convolutions (32 and 64 features), ReLU and 2x2 max pooling after each, a softmax.

    Convolutions keep the size ('same' padding), each pooling halves it. The scores that come out
    are those before the softmax. With ``hidden`` there is a fully connected layer of that many
    neurons (ReLU, dropout 0.5) before the last one.

    Args:
        classes: number of scores.
        channels: of the images, 1 or 3.
        size: (height, width) of the images, at least 5 each.
        hidden: neurons of the hidden layer; 0 for none.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 3,
        size: tuple[int, int] = (32, 32),
        hidden: int = 0,
    ) -> None:
        super().__init__()
        if min(size) < 5:
            raise Rot180Error(
                f"The images are {size[0]}x{size[1]}; the network needs 5x5 at least."
            )
        if channels not in (1, 3):
            raise Rot180Error(f"The network takes images of 1 or 3 channels, not {channels}.")
        if not 0 <= hidden <= 2**20:
            raise Rot180Error(f"The hidden layer cannot have {hidden} neurons.")
        if max(size) > 2**12:
            raise Rot180Error(f"The images are {size[0]}x{size[1]}; at most 4096x4096 are taken.")
        if classes < 2:
            raise Rot180Error(f"A classifier needs two classes at least; there are {classes}.")
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        flat = 64 * (size[0] // 4) * (size[1] // 4)
        self.hidden = (
            nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Dropout(0.5)) if hidden else None
        )
        self.head = nn.Linear(hidden or flat, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the scores of each class."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = torch.flatten(x, 1)
        if self.hidden is not None:
            x = self.hidden(x)
        scores: Tensor = self.head(x)
        return scores

"""PyTorch as it comes: eager, autograd, its own SGD."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from engines import MOMENTUM, RATE, Task


class Engine:
    """Images and kernels in memory with the channels last, or contiguous."""

    def __init__(self, task: Task, channels_last: bool) -> None:
        torch.set_num_threads(task.threads)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 32, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                head=nn.Linear(4096, 10),
            )
        )
        self.x = torch.from_numpy(task.images).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(task.labels)
        self.model.to(dtype=self.x.dtype, memory_format=layout)
        self.names = {
            name.replace("weight", "w").replace("bias", "b"): one
            for name, one in self.model.named_parameters()
        }
        with torch.no_grad():
            for name, one in self.names.items():
                one.copy_(torch.from_numpy(task.weights[name]))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def forward_backward(self) -> float:
        """See :class:`engines.Engine`."""
        loss = F.cross_entropy(self.model(self.x), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.item()

    def update(self) -> None:
        """See :class:`engines.Engine`."""
        self.optimizer.step()

    def gradients(self) -> dict[str, np.ndarray]:
        """See :class:`engines.Engine`."""
        return {name: one.grad.numpy() for name, one in self.names.items()}

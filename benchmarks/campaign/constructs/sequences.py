"""Recurrent layers over columns or over steps, and states."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, net

FIRST = {"first": lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1)}


def columns(z: Tensor) -> Tensor:
    n, c, h, w = z.shape
    return z.permute(0, 3, 1, 2).reshape(n, w, c * h)


def read(m: Net, x: Tensor) -> Tensor:
    """Return what a CRNN does: a recurrent network over columns, a layer on each."""
    found, _ = m.over(columns(F.relu(m.first(x))))
    return m.head(found)


def read_last(m: Net, x: Tensor) -> Tensor:
    found, _ = m.over(columns(F.relu(m.first(x))))
    return m.head(found[:, -1])


def read_with_state(m: Net, x: Tensor) -> Tensor:
    rows = columns(F.relu(m.first(x)))
    state = torch.zeros(1, rows.shape[0], 6, dtype=x.dtype)
    found, _ = m.over(rows, state)
    return m.head(found.mean(1))


def time_first(m: Net, x: Tensor) -> Tensor:
    rows = columns(F.relu(m.first(x))).transpose(0, 1)
    found, (hidden, _) = m.over(rows)
    return m.head(torch.cat([found[-1], hidden[0]], -1))


def cells(m: Net, x: Tensor) -> Tensor:
    rows = columns(F.relu(m.first(x)))
    state = rows.new_zeros(rows.shape[0], 6)
    for column in rows.unbind(1):
        state = m.cell(column, state)
    return m.head(state)


def recurrent_convolution(m: Net, x: Tensor) -> Tensor:
    z = m.first(x)
    state = torch.zeros_like(z)
    for _ in range(3):
        state = F.relu(z + m.again(state))
    return m.last(state)


def gated_convolution(m: Net, x: Tensor) -> Tensor:
    """Return a convolutional GRU of three steps."""
    z = m.first(x)
    h = torch.tanh(z)
    for _ in range(3):
        both = torch.cat([h, z], 1)
        update, reset = torch.sigmoid(m.gates(both)).chunk(2, 1)
        new = torch.tanh(m.new(torch.cat([reset * h, z], 1)))
        h = (1 - update) * h + update * new
    return m.last(h)


HEAD = {"head": lambda: nn.Linear(6, 5)}
CASES = [
    net(
        "GRU over columns (CRNN)",
        read,
        **FIRST,
        over=lambda: nn.GRU(32, 6, batch_first=True),
        **HEAD,
    ),
    net(
        "LSTM over columns",
        read_last,
        **FIRST,
        over=lambda: nn.LSTM(32, 6, batch_first=True),
        **HEAD,
    ),
    net(
        "RNN over columns", read_last, **FIRST, over=lambda: nn.RNN(32, 6, batch_first=True), **HEAD
    ),
    net(
        "RNN with a state of zeros(n, ...)",
        read_with_state,
        **FIRST,
        over=lambda: nn.GRU(32, 6, batch_first=True),
        **HEAD,
    ),
    net(
        "LSTM of two directions",
        read,
        **FIRST,
        over=lambda: nn.LSTM(32, 3, batch_first=True, bidirectional=True, num_layers=2),
        **HEAD,
    ),
    net(
        "LSTM, time first",
        time_first,
        **FIRST,
        over=lambda: nn.LSTM(32, 6),
        head=lambda: nn.Linear(12, 5),
    ),
    net("GRUCell in a loop", cells, **FIRST, cell=lambda: nn.GRUCell(32, 6), **HEAD),
    net(
        "recurrent convolution",
        recurrent_convolution,
        **FIRST,
        again=lambda: nn.Conv2d(4, 4, 3, padding=1),
        last=lambda: nn.Conv2d(4, 4, 3),
    ),
    net(
        "convolutional GRU",
        gated_convolution,
        **FIRST,
        gates=lambda: nn.Conv2d(8, 8, 3, padding=1),
        new=lambda: nn.Conv2d(8, 4, 3, padding=1),
        last=lambda: nn.Conv2d(4, 4, 3),
    ),
]

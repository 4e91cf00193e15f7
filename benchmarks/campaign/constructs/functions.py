"""Functions that rectify nothing, gates, spectra, and functions with their own derivative."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from campaign.constructs.writing import Net, between, net


class Rounded(torch.autograd.Function):
    """Rounds, and lets the gradient through as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x * 4) / 4

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return signal


class Swish(torch.autograd.Function):
    """Swish that saves memory: its derivative is written out, and is the true one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return signal * (s * (1 + x * (1 - s)))


class Reversed(torch.autograd.Function):
    """The gradient reversal of domain-adversarial training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        return -0.5 * signal


def through(m: Net, z: Tensor) -> Tensor:
    return z + (torch.round(z * 4) / 4 - z).detach()


def sign_through(m: Net, z: Tensor) -> Tensor:
    return (torch.sign(z) - z.clamp(-1, 1)).detach() + z.clamp(-1, 1)


def without(m: Net, z: Tensor) -> Tensor:
    with torch.no_grad():
        scale = z.abs().amax((2, 3), keepdim=True)
    return z / (scale + 0.1)


def spectrum(m: Net, z: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(z) * 0.5, s=z.shape[-2:])


def complex_weights(m: Net, z: Tensor) -> Tensor:
    """Return a product with complex weights in the spectrum (GFNet, FNO)."""
    found = torch.fft.rfft2(z, norm="ortho") * torch.view_as_complex(m.weights)
    return torch.fft.irfft2(found, s=z.shape[-2:], norm="ortho")


def complex_parameter(m: Net, z: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(z) * m.weights).real


def fourier_mixing(m: Net, z: Tensor) -> Tensor:
    parts = torch.fft.rfft2(F.relu(z))
    found = m.mix(torch.cat([parts.real, parts.imag], 1))
    real, imag = found.chunk(2, 1)
    return torch.fft.irfft2(torch.complex(real, imag), s=z.shape[-2:])


PLAIN = {
    "Softsign": F.softsign,
    "Softshrink": lambda z: F.softshrink(z, 0.2),
    "Hardshrink": lambda z: F.hardshrink(z, 0.2),
    "Tanhshrink": F.tanhshrink,
    "LogSigmoid": F.logsigmoid,
    "Hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda z: F.hardtanh(z, -0.5, 0.5),
    "sin (SIREN)": lambda z: torch.sin(3 * z),
    "x + sin(x)^2 (Snake)": lambda z: z + torch.sin(2 * z).pow(2) / 2,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "signed square root": lambda z: z.sign() * (z.abs() + 1e-3).sqrt(),
    "exp and log": lambda z: (z.exp() + 1).log(),
    "atan": torch.atan,
    "Gaussian": lambda z: torch.exp(-(z**2)),
    "sqrt(x^2 + y^2)": lambda z: (z[:, :4] ** 2 + z[:, 4:] ** 2 + 1e-8).sqrt().repeat(1, 2, 1, 1),
    "atan2": lambda z: torch.atan2(z, z.roll(1, 1)),
    "reciprocal": lambda z: 1 / (z.abs() + 1),
    "polynomial": lambda z: z**3 - z * 2 + z.square() * 0.3,
    "lerp": lambda z: torch.lerp(z, z.flip(-1), 0.3),
    "addcmul": lambda z: torch.addcmul(z, z, z.roll(1, 2), value=0.2),
    "logsumexp": lambda z: z.logsumexp(1, keepdim=True) + z,
    "where by another map": lambda z: torch.where(z.roll(1, 1) > 0, z, -0.5 * z),
    "masked by a threshold": lambda z: z * (z > z.mean((2, 3), keepdim=True)),
    "nan_to_num": lambda z: torch.nan_to_num(z),
    "rounded": lambda z: z + z.round(),
    "modulo": lambda z: torch.remainder(z, 1.0),
}

CASES = [
    *(between(name, lambda m, z, f=f: f(z)) for name, f in PLAIN.items()),
    between("GLU", lambda m, z: F.glu(torch.cat([z, z.roll(1, 2)], 1), 1)),
    between("gate by half the maps", lambda m, z: (p := z.chunk(2, 1))[0] * p[1], after=4),
    between("SwiGLU", lambda m, z: F.silu((p := z.chunk(2, 1))[0]) * p[1], after=4),
    between("maxout", lambda m, z: z.view(len(z), 4, 2, 16, 16).max(2).values, after=4),
    between("max-feature-map", lambda m, z: torch.max(*z.chunk(2, 1)), after=4),
    between("straight through, by detach", through),
    between("sign, straight through", sign_through),
    between("a function of its own: rounding", lambda m, z: Rounded.apply(z)),
    between("a function of its own: swish", lambda m, z: Swish.apply(z)),
    between("gradient reversal", lambda m, z: Reversed.apply(z)),
    between("scaled in a no_grad block", without),
    between("rfft2 and irfft2", spectrum),
    between(
        "complex weights by pairs",
        complex_weights,
        weights=lambda: nn.Parameter(torch.randn(8, 16, 9, 2)),
    ),
    between(
        "complex weights",
        complex_parameter,
        weights=lambda: nn.Parameter(torch.randn(8, 16, 16, dtype=torch.complex64)),
    ),
    between("convolution of a spectrum", fourier_mixing, mix=lambda: nn.Conv2d(16, 16, 1)),
    between("absolute values of a spectrum", lambda m, z: torch.fft.fft2(z).abs()),
    between("sign of a map", lambda m, z: z * torch.sign(z.roll(1, 1))),
    between(
        "Gram matrix",
        lambda m, z: torch.einsum("nchw,ndhw->ncd", z, z)[..., None] / 256 + z[:, :, :8],
    ),
    net(
        "bilinear",
        lambda m, x: m.mix(z := F.relu(m.first(x)).mean((2, 3)), z),
        first=lambda: nn.Conv2d(3, 8, 3),
        mix=lambda: nn.Bilinear(8, 8, 5),
    ),
    net(
        "bilinear, then a layer",
        lambda m, x: m.head(m.mix(z := F.relu(m.first(x)).mean((2, 3)), z.flip(1))),
        first=lambda: nn.Conv2d(3, 8, 3),
        mix=lambda: nn.Bilinear(8, 8, 5),
        head=lambda: nn.Linear(5, 3),
    ),
]

"""The device to compute on: a GPU if there is one, otherwise the CPU."""

from typing import TYPE_CHECKING

from rot180.errors import Rot180Error

if TYPE_CHECKING:
    import torch


def resolve_device(name: "str | torch.device" = "auto") -> "torch.device":
    """Return the device of this name; "auto" is CUDA or Apple's MPS if available, else the CPU.

    Raises:
        Rot180Error: the device cannot be used on this machine.
    """
    import torch

    if str(name) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.ones(1, device=name).cpu()  # copying back must work, too
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Rot180Error(f"The device '{name}' cannot be used here: {reason}") from error

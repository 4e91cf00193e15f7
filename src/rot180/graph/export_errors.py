"""Explains why a model cannot be captured, with the line of the user's code that is the reason."""

import linecache
import traceback
from pathlib import Path

import torch
from torch import nn

_ADVICE = (
    (
        ("data-dependent", "data dependent", "unbacked symbols", "GuardOnDataDependent"),
        "A decision or a number in it depends on the values of the image; decide by shapes, or "
        "compute both ways and choose with torch.where.",
    ),
    (
        ("expected input", "to have", "channels"),
        "Give an example of the shape that the model takes.",
    ),
    (
        (
            "mat1 and mat2",
            "same reduction dim",
            "size mismatch",
            "must match the size",
            "Kernel size can't be greater",
            "Output size is too small",
        ),
        "Give an example of the size that the model takes.",
    ),
    (
        ("missing", "positional argument"),
        "Say what the other inputs are: rot180.capture(model, example, inputs=(example, other)).",
    ),
    (
        ("is not an instance of torch.nn.Parameter", "ScriptModule", "RecursiveScript"),
        "A part of it is a TorchScript module, which cannot be exported: use the module that it "
        "was made from.",
    ),
)
_GENERAL = "Its forward method has to take a batch of images and use PyTorch's operators only."


def explain_export_error(error: BaseException, model: nn.Module) -> str:
    """Return a sentence that says where and why ``torch.export`` stopped, and what to try."""
    cause: BaseException | None = error
    line, message = "", ""
    while cause is not None:  # the innermost cause that has a line of the model
        model_line = _line_of_the_model(cause)
        if model_line:
            line, message = model_line, _first_line(cause)
        cause = cause.__cause__ or cause.__context__
    text = f"{error} {message}"
    advice = next((advice for signs, advice in _ADVICE if _mentions(text, signs)), _GENERAL)
    if _mentions(text, _ADVICE[0][0]):
        advice = advice_for_detectors(model) or advice
    reason = message or _first_line(error)
    at = f" at {line}" if line else ""
    return (
        f"The model cannot be captured: torch.export stopped{at} with {type(error).__name__}: "
        f"{reason.rstrip('.')}. {advice}"
    )


def advice_for_detectors(model: nn.Module) -> str:
    """Return how to capture a detector; "" for a model without a backbone."""
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        return ""
    return (
        "A detector chooses boxes by the values of the image. Capture the part that computes its "
        "maps: rot180.capture(model.backbone, example)."
    )


def _mentions(text: str, signs: tuple[str, ...]) -> bool:
    """Say whether a text contains one of the signs, or all if they belong to one sentence."""
    if signs[0] in ("expected input", "missing"):
        return all(sign in text for sign in signs)
    return any(sign in text for sign in signs)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def _line_of_the_model(error: BaseException) -> str:
    """Return the innermost line that is neither PyTorch's nor ours: file, number and text."""
    not_the_user = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(not_the_user) and not frame.filename.startswith("<")
    ]
    if not frames:
        return ""
    frame = frames[-1]
    text = (linecache.getline(frame.filename, frame.lineno or 0) or frame.line or "").strip()
    return f"{frame.filename}:{frame.lineno} ('{text}')" if text else ""

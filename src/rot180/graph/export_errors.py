"""Why a model cannot be captured: one sentence with the line of the user's code that stops it."""

import linecache
import traceback
from pathlib import Path

import torch
from torch import nn

_ADVICE = (
    (
        ("data-dependent", "data dependent", "unbacked symbols", "GuardOnDataDependent"),
        "It decides something by the values of the image, or makes a number of them; decide by "
        "shapes, or compute both ways and choose with torch.where.",
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
_GENERAL = "Its forward method has to take a batch of images, and may use PyTorch's operators only."


def why_not(error: BaseException, model: nn.Module) -> str:
    """Say in one sentence where and why ``torch.export`` stopped, and what to try."""
    found: BaseException | None = error
    place, words = "", ""
    while found is not None:  # the innermost cause that names a line of the model
        here = _line_of_the_model(found)
        if here:
            place, words = here, _first_line(found)
        found = found.__cause__ or found.__context__
    everything = f"{error} {words}"
    advice = next((advice for signs, advice in _ADVICE if _speaks_of(everything, signs)), _GENERAL)
    if _speaks_of(everything, _ADVICE[0][0]):
        advice = for_detectors(model) or advice
    reason = words or _first_line(error)
    at = f" at {place}" if place else ""
    return (
        f"The model cannot be captured: torch.export stopped{at} with {type(error).__name__}: "
        f"{reason.rstrip('.')}. {advice}"
    )


def for_detectors(model: nn.Module) -> str:
    """Return how to capture a model that chooses boxes by values; "" where it has no backbone."""
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        return ""
    return (
        "A detector chooses boxes by the values of the image. Capture the part that computes its "
        "maps: rot180.capture(model.backbone, example)."
    )


def _speaks_of(words: str, signs: tuple[str, ...]) -> bool:
    """Say whether one of the signs (all of them, if the first is part of a sentence) is there."""
    if signs[0] in ("expected input", "missing"):
        return all(one in words for one in signs)
    return any(one in words for one in signs)


def _first_line(error: BaseException) -> str:
    return next((one.strip() for one in str(error).splitlines() if one.strip()), repr(error))


def _line_of_the_model(error: BaseException) -> str:
    """Return the innermost line that is neither PyTorch's nor ours: file, number, and text."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(ours) and not frame.filename.startswith("<")
    ]
    inner = [one for one in frames if one.name == "forward" or one.name.startswith("_")] or frames
    if not inner:
        return ""
    frame = frames[-1]
    text = (linecache.getline(frame.filename, frame.lineno or 0) or frame.line or "").strip()
    return f"{frame.filename}:{frame.lineno} ('{text}')" if text else ""

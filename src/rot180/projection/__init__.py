"""Features carried back to pixels: the backward pass with its rules."""

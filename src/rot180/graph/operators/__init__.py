"""The operators: each knows its forward pass, its backward pass and its input span."""

"""The operators: each knows its forward pass, its way back, and its reach."""

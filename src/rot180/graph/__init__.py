"""A PyTorch network as a list of steps, and the region arithmetic of each step."""

"""Training of the two-layer network: its recipe, both engines, the optimizer and the loop."""

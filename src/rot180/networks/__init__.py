"""The two-layer network, its training, and its checkpoint: one file that later commands need."""

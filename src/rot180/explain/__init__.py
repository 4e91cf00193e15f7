"""Back-propagation through one convolution, shown on a small case, number by number."""

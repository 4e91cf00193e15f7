"""Models of any kind: loading them by name, their weights, and how images become their input."""

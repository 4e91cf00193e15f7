"""What pages show, as plain data: the same as JSON."""

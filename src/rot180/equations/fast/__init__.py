"""Fast counterparts of the plain equations: the same numbers, by other steps."""

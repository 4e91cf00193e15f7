"""Projects features back to pixels: the backward pass, its rules, and how faithful they are."""

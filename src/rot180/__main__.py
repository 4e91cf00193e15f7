"""``python -m rot180``: the command line."""

from rot180.cli import main

main()

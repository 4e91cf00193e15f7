"""A hostile campaign: damaged files, failing calls, lost power, rude clients.

``python -m tests.hostile`` runs it, in about ten minutes on two cores; ``--scale`` says how much of
it. ``test_hostile.py`` runs a part.
"""

"""A hostile campaign: damaged files, failing calls, lost power, rude clients.

``python -m tests.hostile --minutes 10`` runs it; ``test_hostile.py`` runs a part of it.
"""

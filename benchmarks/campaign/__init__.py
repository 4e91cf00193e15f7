"""The parts of ``benchmarks/zoo.py``: networks of all kinds, and what judges them."""

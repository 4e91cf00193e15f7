"""The parts of ``benchmarks/zoo.py``: networks of all kinds, oracles, and what judges between them."""

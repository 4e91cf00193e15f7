"""Explains back-propagation through one small convolution, number by number.

- ``example``: the convolution, given or drawn at random; ``worked``: all of its numbers;
- ``explanation`` and ``proofs``: the steps of the explanation, made of ``blocks``;
- ``terminal``, ``svg_document``, ``latex``: the explanation as text, as a picture, as a document;
- ``diagrams``: drawings of layers, connections and sliding kernels, in ``svg``.
"""

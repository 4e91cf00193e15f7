"""Back-propagation in a convolutional network, worked out: NumPy and the standard library only.

To be read in this order:

- ``convolution``: the convolution, its error and its weight gradient, as equations;
- ``equivalence``: why they are those of a perceptron, connections cut and weights shared;
- ``layers``, ``activations``, ``pooling``, ``costs``: what a network is made of;
- ``network``: the five steps of the algorithm, and training;
- ``deconvnet``: the way back to the pixels, with the same convolutions;
- ``trace``, over ``links``: the products behind a single number;
- ``verify``: finite differences and adjoint identities, for these layers and for yours.

``patches`` and ``team`` are there for speed; ``geometry`` and ``optimizers`` for the rest.
"""

from rot180.equations.activations import Activation, ReLU, Sigmoid, Tanh
from rot180.equations.convolution import rot180
from rot180.equations.costs import Cost, Quadratic, SoftmaxCrossEntropy, softmax
from rot180.equations.deconvnet import project
from rot180.equations.equivalence import connections
from rot180.equations.fast.im2col import channels_last
from rot180.equations.fast.parallel import DataParallel
from rot180.equations.gradcheck import adjoint_error, check_layer, check_network
from rot180.equations.layers import Convolution, Dense, Dropout, Flatten, Layer
from rot180.equations.network import Network
from rot180.equations.optimizers import SGD, Adam, Muon, Optimizer
from rot180.equations.pooling import AveragePool, MaxPool
from rot180.equations.trace import Trace

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AveragePool",
    "Convolution",
    "Cost",
    "DataParallel",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPool",
    "Muon",
    "Network",
    "Optimizer",
    "Quadratic",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "Trace",
    "adjoint_error",
    "channels_last",
    "check_layer",
    "check_network",
    "connections",
    "project",
    "rot180",
    "softmax",
]

"""Back-propagation in a convolutional network, with NumPy and the standard library only.

To be read in this order:

- ``convolution``: the convolution, its error and its weight gradient, as equations;
- ``equivalence``: a convolution is a perceptron with cut connections and shared weights;
- ``layers``, ``activations``, ``pooling``, ``costs``: the parts of a network;
- ``network``: the five steps of the algorithm; ``training`` and ``optimizers``: learning by them;
- ``deconvnet``: the backward pass from a feature to the pixels, by the same convolutions;
- ``trace``, over ``wiring``: the products behind a single number;
- ``gradcheck``: finite differences and adjoint identities, for these layers and for yours.

``fast`` overrides the layers to save time; the layers that this package exports are those of
``fast``. ``padding`` computes window positions and checks arguments.
"""

from rot180.equations.activations import Activation, Sigmoid, Tanh
from rot180.equations.convolution import rot180
from rot180.equations.costs import Cost, Quadratic, SoftmaxCrossEntropy, softmax
from rot180.equations.deconvnet import project
from rot180.equations.equivalence import connections
from rot180.equations.fast.im2col import channels_last
from rot180.equations.fast.layers import AveragePool, Convolution, Dense, Flatten, MaxPool, ReLU
from rot180.equations.fast.parallel import DataParallel
from rot180.equations.gradcheck import adjoint_error, check_layer, check_network
from rot180.equations.layers import Dropout, Layer
from rot180.equations.network import Network
from rot180.equations.optimizers import SGD, Adam, Muon, Optimizer
from rot180.equations.trace import Trace
from rot180.equations.training import fit

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
    "fit",
    "project",
    "rot180",
    "softmax",
]

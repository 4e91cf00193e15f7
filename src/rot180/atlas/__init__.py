"""The atlas: what excites every feature of a network, over a whole data set, in one file."""

"""The atlas: one file that says which images of a data set excite each feature of a network."""

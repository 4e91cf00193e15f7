"""The initial kernels are the principal components of the patches."""

import numpy as np
import torch

from rot180.training.patch_pca import principal_kernels
from tests.training.helpers import stripes


def test_principal_kernels_are_the_singular_vectors_of_the_patches() -> None:
    images = stripes(40, 0).images
    mean, std = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)
    kernels = principal_kernels(images, mean, std, 10)
    assert torch.equal(kernels[5:], -kernels[:5])
    values = (images / 255 - mean) / std
    windows = np.lib.stride_tricks.sliding_window_view(values, (5, 5), (1, 2))
    patches = windows.reshape(-1, 3 * 25)
    wanted = np.linalg.svd(patches - patches.mean(0), full_matrices=False)[2][:5]
    found = kernels[:5].reshape(5, -1).double().numpy()
    assert np.allclose(np.abs(found @ wanted.T), np.eye(5), atol=1e-5)

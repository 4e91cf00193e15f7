"""Augmentation moves and recolours images as the recipe says."""

from dataclasses import replace

import torch

from rot180.training.augment import jitter_colour, shift_and_flip
from rot180.training.recipe import Recipe


def test_images_are_mirrored_and_shifted_with_their_edges_repeated() -> None:
    image = torch.arange(5 * 6 * 3, dtype=torch.uint8).reshape(1, 5, 6, 3)
    recipe = Recipe(shift=2, flip=True)
    wanted = set()
    for flipped in (image, image.flip(2)):
        padded = torch.nn.functional.pad(
            flipped.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="replicate"
        ).permute(0, 2, 3, 1)
        for dy in range(5):
            for dx in range(5):
                one = padded[0, dy : dy + 5, dx : dx + 6].byte()
                wanted.add(tuple(one.flatten().tolist()))
    found = shift_and_flip(image.repeat(2000, 1, 1, 1), recipe, torch.Generator().manual_seed(0))
    assert {tuple(one.flatten().tolist()) for one in found} == wanted
    still = shift_and_flip(image, replace(recipe, shift=0, flip=False), torch.Generator())
    assert torch.equal(still, image)


def test_a_turn_of_the_colours_keeps_brightness_and_length() -> None:
    x = torch.rand(64, 4, 4, 3, dtype=torch.float32)
    found = jitter_colour(x, Recipe(hue=180.0), torch.Generator().manual_seed(0))
    assert torch.allclose(found.sum(-1), x.sum(-1), atol=1e-5)
    assert torch.allclose(found.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert (found - x).abs().amax((1, 2, 3)).median() > 0.3
    none = jitter_colour(x, Recipe(), torch.Generator())
    assert torch.equal(none, x)
    grey = jitter_colour(x, Recipe(grey=0.5), torch.Generator().manual_seed(0))
    lost = torch.isclose(grey[..., 0], grey[..., 2], atol=1e-5).all((1, 2))
    assert 16 < int(lost.sum()) < 48

"""Long noise that must be standard: mean 0 and variance 1 in every frame."""

import torch

# Four 480p videos: 345,600 numbers a frame, so that 1 % is four standard errors of a frame's variance.
SIZE, LENGTH, STRIDE = (4, 16, 39, 60, 90), 13, 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_standard(noise):
    frames = noise.movedim(2, 0).flatten(1)
    assert frames.mean(1).abs().max() < 0.01 and frames.mean().abs() < 0.01
    assert (frames.var(1) - 1).abs().max() < 0.01 and abs(frames.var() - 1) < 0.01

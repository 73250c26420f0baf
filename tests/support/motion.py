"""VMCR's motion loss as the paper prints it, for comparison with the streamed one."""

import itertools
import math

import torch


def brute_force(x0, s):
    """The loss as the paper prints it: all motion vectors at once, the whole spectrum, sums everywhere."""
    total = 0
    floor = s.phase_floor * math.sqrt(x0.shape[-2] * x0.shape[-1])
    for video in x0:
        delta = (video[:, 1:] - video[:, :-1]).unbind(1)
        for p, q in itertools.pairwise(delta):
            cos = torch.nn.functional.cosine_similarity(p.flatten(), q.flatten(), dim=0, eps=1e-8)
            total = total + (1 - cos) + s.lambda_mse * ((p - q) ** 2).sum()
            spectrum_p, spectrum_q = torch.fft.fft2(p), torch.fft.fft2(q)
            amplitude = (spectrum_p.abs() - spectrum_q.abs()).abs().sum()
            d = spectrum_p.angle() - spectrum_q.angle()
            if s.phase == "wrapped":
                d = torch.atan2(d.sin(), d.cos())
            counted = (spectrum_p.abs() > floor) & (spectrum_q.abs() > floor)
            total = total + s.lambda_f * (amplitude + s.lambda_phase * d[counted].abs().sum())
    return total


def autograd(x0, settings):
    """The gradient of brute_force."""
    x0 = x0.clone().requires_grad_()
    brute_force(x0, settings).backward()
    return x0.grad

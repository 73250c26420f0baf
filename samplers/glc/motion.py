"""Video motion consistency refinement: the motion loss of GLC-Diffusion and its gradient, written by hand.

GLC-Diffusion (arXiv 2501.05484), section 3.4, Eq. 12-14. x0 is a predicted clean latent [B, C, F, H, W]; its motion
vectors are delta^i = x0[i+1] - x0[i] in latent frames; the loss compares each with the next one. No autograd: ComfyUI
samples under torch.inference_mode.

Differs from the paper, or settles what it leaves open:
- the sums run over i = 0..F-3; the printed N-2 overruns (delta^{i+1} needs frame i+2);
- norms are sums over pixels, channels and frames, and F is the un-normalised 2-D FFT over (H, W) of each frame and
  channel: with means, the paper's omega would change nothing that can be seen;
- the cosine is of whole frames (C*H*W values); where either does not move (norm <= EPS) it is 0, without gradient;
- the phase difference is wrapped to (-pi, pi] by default; "raw" is the formula as printed, which jumps at +-pi;
- phases count only where both amplitudes reach phase_floor * sqrt(H*W), those of a white motion of rms phase_floor: a
  phase's gradient is 1/amplitude, without bound where there is no motion.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..checks import held

PHASES = ("wrapped", "raw")
EPS = 1e-8
CHUNK_VALUES = 2**18  # values of one chunk's motion vectors (at least two pairs: a lone one rounds differently)
FRAME = (1, 3, 4)  # what one frame's sum runs over: C, H, W


@dataclass(frozen=True)
class MotionSettings:
    """Weights of the motion loss (the paper's lambda_f, lambda_mse, lambda_phase), phase one of PHASES.

    phase_floor is in latent units. Raises ValueError for an unknown phase or a weight out of bounds.
    """

    lambda_f: float = 0.2
    lambda_mse: float = 0.001
    lambda_phase: float = 1.0
    phase: str = "wrapped"
    phase_floor: float = 1e-2

    def __post_init__(self):
        weights = dict.fromkeys(("lambda_f", "lambda_mse", "lambda_phase"), (0.0, 100.0))
        held(self, weights | {"phase_floor": (0.0,)}, {"phase": PHASES})


def rescale_factor(height: int, width: int) -> float:
    """sqrt(5400 / (H*W)): keeps a step's size per latent pixel that of the paper's 60 x 90 latents.

    The amplitude term, by far the largest, has a gradient whose rms grows with sqrt(H*W).
    """
    return math.sqrt(5400 / (height * width))


def _spectra(p, q, settings: MotionSettings):
    """Half spectra (the motion is real) of both vectors, their amplitudes, and where both phases count."""
    spectrum_p, spectrum_q = torch.fft.rfft2(p), torch.fft.rfft2(q)
    amplitude_p, amplitude_q = spectrum_p.abs(), spectrum_q.abs()
    floor = settings.phase_floor * math.sqrt(p.shape[-2] * p.shape[-1])
    counted = torch.minimum(amplitude_p, amplitude_q) > floor
    return spectrum_p, spectrum_q, amplitude_p, amplitude_q, counted


def _phase_difference(spectrum_p, spectrum_q, phase: str):
    if phase == "wrapped":
        return (spectrum_p * spectrum_q.conj()).angle()  # = atan2(sin d, cos d) of the difference d
    return spectrum_p.angle() - spectrum_q.angle()


def _cosine(p, q):
    """cos(p, q) per frame, 1 / (|p| |q|), 1 / |p|^2 and 1 / |q|^2; all 0 where a frame does not move."""
    norm_p, norm_q = p.square().sum(FRAME, keepdim=True).sqrt(), q.square().sum(FRAME, keepdim=True).sqrt()
    moves = torch.minimum(norm_p, norm_q) > EPS
    inverse_p, inverse_q = (torch.where(moves, n, torch.inf).reciprocal() for n in (norm_p, norm_q))
    both = inverse_p * inverse_q
    return (p * q).sum(FRAME, keepdim=True) * both, both, inverse_p.square(), inverse_q.square()


def pair_loss(p: torch.Tensor, q: torch.Tensor, settings: MotionSettings) -> torch.Tensor:
    """Sum of the loss of pairs (delta^i, delta^{i+1}), both [B, C, n, H, W]."""
    loss = (1 - _cosine(p, q)[0]).sum() + settings.lambda_mse * (p - q).square().sum()  # Eq. 13
    if settings.lambda_f:
        spectrum_p, spectrum_q, amplitude_p, amplitude_q, counted = _spectra(p, q, settings)
        frequency = (amplitude_p - amplitude_q).abs()  # Eq. 14, amplitude
        if settings.lambda_phase:
            difference = _phase_difference(spectrum_p, spectrum_q, settings.phase).abs()
            frequency = frequency + settings.lambda_phase * torch.where(counted, difference, 0)  # Eq. 14, phase
        width = p.shape[-1]
        mirrored = frequency[..., 1 : (width + 1) // 2]  # columns whose conjugates the half spectrum leaves out
        loss = loss + settings.lambda_f * (frequency.sum() + mirrored.sum())
    return loss


def pair_gradient(p: torch.Tensor, q: torch.Tensor, settings: MotionSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of pair_loss with respect to p and q.

    For a function f of the spectrum P = FFT(p) the gradient is the un-normalised inverse FFT of
    df/dRe(P) + i df/dIm(P): P/|P| for an amplitude, i P/|P|^2 for a phase.
    """
    cos, both, inverse_p, inverse_q = _cosine(p, q)
    mse = 2 * settings.lambda_mse
    gradient_p = (cos * inverse_p + mse) * p - (both + mse) * q  # of Eq. 13
    gradient_q = (cos * inverse_q + mse) * q - (both + mse) * p
    if not settings.lambda_f:
        return gradient_p, gradient_q

    spectrum_p, spectrum_q, amplitude_p, amplitude_q, counted = _spectra(p, q, settings)
    size = p.shape[-2:]
    amplitude = (amplitude_p - amplitude_q).sign()  # of Eq. 14
    phase = _phase_difference(spectrum_p, spectrum_q, settings.phase).sign() * settings.lambda_phase
    for gradient, spectrum, absolute, sign in (
        (gradient_p, spectrum_p, amplitude_p, settings.lambda_f),
        (gradient_q, spectrum_q, amplitude_q, -settings.lambda_f),
    ):
        slope = torch.where(counted, phase / absolute, 0)
        spectral = spectrum.sgn() * torch.complex(amplitude, slope)
        gradient.add_(torch.fft.irfft2(spectral, s=size, norm="forward"), alpha=sign)
    return gradient_p, gradient_q


def motion_pairs(x0: torch.Tensor, chunk: int | None = None) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(i, delta^i.., delta^{i+1}..) for up to `chunk` pairs at a time, Eq. 12, in float32 (float64 stays)."""
    batch, channels, frames, height, width = x0.shape
    chunk = chunk or max(CHUNK_VALUES // (batch * channels * height * width), 2)
    dtype = torch.float64 if x0.dtype == torch.float64 else torch.float32
    i, pairs = 0, frames - 2
    while i < pairs:
        n = pairs - i if pairs - i <= chunk + 1 else chunk  # a last pair goes with those before it
        delta = x0[:, :, i : i + n + 2].to(dtype).diff(dim=2)  # Eq. 12
        yield i, delta[:, :, :-1], delta[:, :, 1:]
        i += n


def motion_loss(
    x0: torch.Tensor, settings: MotionSettings = MotionSettings(), chunk: int | None = None
) -> torch.Tensor:
    """l_motion = l_pixel + lambda_f * l_freq of x0 [B, C, F, H, W], a scalar; 0 for fewer than 3 latent frames."""
    losses = [pair_loss(p, q, settings) for _, p, q in motion_pairs(x0, chunk)]
    return torch.stack(losses).sum() if losses else x0.new_zeros(())


def gradient_chunks(
    x0: torch.Tensor, settings: MotionSettings = MotionSettings(), chunk: int | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """(i, d l_motion / d x0 of the frames from i on) for a few frames at a time, each frame once; none for F < 3.

    Reads x0 only ahead of what it has yielded. Memory is that of `chunk` frames, whatever F.
    """
    if x0.shape[2] < 3:
        return
    before = 0  # gradient of the motion vector before the next frame
    part = 0  # what the pairs so far add to the one after it
    for i, p, q in motion_pairs(x0, chunk):
        delta, later = pair_gradient(p, q, settings)
        delta[:, :, :1] += part
        delta[:, :, 1:] += later[:, :, :-1]
        gradient = -delta  # of delta^i = x0[i+1] - x0[i]: plus to frame i+1, minus to frame i
        gradient[:, :, :1] += before
        gradient[:, :, 1:] += delta[:, :, :-1]
        before, part = delta[:, :, -1:].clone(), later[:, :, -1:].clone()
        yield i, gradient
    yield x0.shape[2] - 2, torch.cat([before - part, part], dim=2)


def motion_gradient(
    x0: torch.Tensor, settings: MotionSettings = MotionSettings(), chunk: int | None = None
) -> torch.Tensor:
    """d l_motion / d x0, shaped like x0 [B, C, F, H, W], in float32 (float64 stays); zeros for F < 3."""
    gradient = torch.zeros_like(x0, dtype=torch.float64 if x0.dtype == torch.float64 else torch.float32)
    for i, part in gradient_chunks(x0, settings, chunk):
        gradient[:, :, i : i + part.shape[2]] = part
    return gradient

"""Models whose batch is the video: latents [F, C, H, W] whose frames are the rows of a batch, as those of U-Nets with
layers over time.

The window engine, SynCoS and VMCR know videos [B, C, F, H, W]. Here lies what stands between: one such latent is seen
as [1, C, F, H, W], a view of the same memory, and goes to the model as it came. Which models these are, their class
says: core's Stable Video Diffusion and SV3D. A batch of pictures of any other 4-D model is no video and never cut. Each
frame is a picture of its own in their VAE: one pixel frame to a latent frame.

AnimateDiff-Evolved's latents are such batches too, but its wrappers refuse one that is longer than the motion model,
and hold the motion model to the whole length, before any window could be cut: see latents.compression_of.
"""

import comfy.model_base
import torch

BY_FRAME = ("VideoLinearCFGGuidance", "VideoTriangleCFGGuidance")  # core's nodes: guidance by a frame's place


def frames_in_batch(model) -> bool:
    """Whether a batch of this model's latents is one video. model: core's BaseModel."""
    return isinstance(model, comfy.model_base.SVD_img2vid)


def as_video(x: torch.Tensor) -> torch.Tensor:
    """[F, C, H, W] as [1, C, F, H, W], a view."""
    return x.movedim(0, 1)[None]


def as_batch(x: torch.Tensor) -> torch.Tensor:
    """[B, C, F, H, W] as [B F, C, H, W], video by video; a view of one video."""
    return x.movedim(2, 1).flatten(0, 1)


def framewise(calc):
    """Core's calc_cond_batch, for videos: x [n, C, L, H, W], one sigma for each."""

    def of_videos(model, conds, x: torch.Tensor, sigma: torch.Tensor, options: dict) -> list[torch.Tensor]:
        count, length = x.shape[0], x.shape[2]
        results = calc(model, conds, as_batch(x), sigma.repeat_interleave(length), options)
        return [result.unflatten(0, (count, length)).movedim(1, 2) for result in results]

    return of_videos


def uncut_control(conds: list) -> str | None:
    """What among the conditioning of such a model core does not cut, in words; None: nothing. Its ControlNets take a
    batch's pictures in their order, whichever frames a window holds."""
    for entry in (entry for cond in conds for entry in cond or ()):
        control = entry.get("control")
        while control is not None:
            hint = getattr(control, "cond_hint_original", None)
            if hint is not None and hint.shape[0] > 1:
                return (
                    f"conditioning: the {hint.shape[0]} pictures of a ControlNet cannot be cut into windows where the "
                    f"frames are the latent's batch; give it one picture"
                )
            control = getattr(control, "previous_controlnet", None)
    return None


def guided_by_frame(model_options: dict) -> str | None:
    """The core node whose guidance goes by a frame's place in the latent, in a model's options."""
    name = getattr(model_options.get("sampler_cfg_function"), "__qualname__", "").split(".")[0]
    return name if name in BY_FRAME else None

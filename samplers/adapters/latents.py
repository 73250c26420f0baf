"""What ComfyUI's latent formats say of a video: the frame axis, and pixel frames per latent frame."""

from .frame_batch import frames_in_batch

NODE = "Global/Local Window Scheduler (LongTakeWindowScheduler)"
DIM = 2  # frame axis of [batch, channels, frames, height, width]
ANIMATEDIFF = "ADE"  # what AnimateDiff-Evolved calls its additional models

# Pixel frames per latent frame, for cores whose latent formats do not say so.
COMPRESSION = {
    "Wan21": 4, "Wan22": 4, "HunyuanVideo": 4, "HunyuanVideo15": 4, "HunyuanImage21Refiner": 1,
    "LTXV": 8, "Mochi": 6, "Cosmos1CV8x8x8": 8,
}  # fmt: skip


def temporal_compression(latent_format) -> int:
    """Pixel frames per latent frame after the first. Raises ValueError for image formats and unknown video formats."""
    name = type(latent_format).__name__
    if latent_format.latent_dimensions != 3:
        raise ValueError(
            f"{NODE}: model: this is an image model (latent format {name}); windows over time need a video model, "
            f"e.g. Wan, LTX-Video or HunyuanVideo"
        )
    ratio = getattr(latent_format, "temporal_downscale_ratio", None)
    if ratio is None:
        ratio = next((COMPRESSION[c.__name__] for c in type(latent_format).__mro__ if c.__name__ in COMPRESSION), None)
    if ratio is None:
        raise ValueError(f"{NODE}: model: no temporal compression is known for {name}; known: {', '.join(COMPRESSION)}")
    return ratio


def frame_axis(patcher) -> int:
    """The frame axis of a ModelPatcher's latents."""
    return 0 if frames_in_batch(patcher.model) else DIM


def compression_of(patcher) -> int:
    """Pixel frames per latent frame of a ModelPatcher's video latents. Raises ValueError for models of pictures."""
    if ANIMATEDIFF in getattr(patcher, "additional_models", {}):
        raise ValueError(
            f"{NODE}: model: AnimateDiff-Evolved holds its motion model to the length of the whole latent, and cuts "
            f"windows by itself; use its Context Options in place of this node"
        )
    return 1 if frames_in_batch(patcher.model) else temporal_compression(patcher.get_model_object("latent_format"))


def video_frames(latent: dict, axis: int = DIM) -> int:
    """Latent frames of a LATENT's video; of one with audio beside it, those of the video, which comes first. axis: see
    frame_axis. Raises ValueError for a picture's.
    """
    samples = latent["samples"]
    video = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    if video.ndim != (4 if axis == 0 else 5):
        wanted = "4 dimensions [frames, channels, height, width], as of SVD_img2vid_Conditioning"
        if axis == DIM:
            wanted = "5 dimensions [batch, channels, frames, height, width], as of EmptyHunyuanLatentVideo"
        shape = tuple(video.shape)
        raise ValueError(f"{NODE}: latent: its shape is {shape}; a video latent of this model has {wanted}")
    return video.shape[axis]

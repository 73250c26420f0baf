"""What ComfyUI's latent formats say of a video: the frame axis, and pixel frames per latent frame."""

NODE = "Global/Local Window Scheduler (LongTakeWindowScheduler)"
DIM = 2  # frame axis of [batch, channels, frames, height, width]

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


def video_frames(latent: dict) -> int:
    """Latent frames of a LATENT's video; of one with audio beside it, those of the video, which comes first.

    Raises ValueError for a picture's.
    """
    samples = latent["samples"]
    video = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    if video.ndim != 5:
        raise ValueError(
            f"{NODE}: latent: its shape is {tuple(video.shape)}; a video latent has 5 dimensions [batch, channels, "
            f"frames, height, width], as of EmptyHunyuanLatentVideo"
        )
    return video.shape[DIM]

"""A video in pieces becomes the latent of core's whole encode; of classes that see all of it, core's tiles'."""

from fractions import Fraction

import av
import pytest
import torch
from comfy_api.latest import InputImpl
from comfy_api.util import VideoComponents
from longtake.nodes.video import LongTakeEncodeVideo
from longtake.samplers.adapters import encoding
from longtake.samplers.adapters.video_read import Reader
from support.tiny_vaes import VAES, built

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes")

EXACT = [n for n in VAES if n.split("_")[0] in ("wan21", "wan22", "ltx", "cogvideox") and encoding.exact(built(n))]


def pixels(name, frames):
    side = 2 * VAES[name].space
    return torch.rand(frames, side, side, 3, generator=torch.Generator().manual_seed(frames))


def encoded(vae, images, **options):
    given = iter(images)

    def read(count):
        return torch.stack([next(given) for _ in range(count)])

    return encoding.encode(vae, len(images), read, lambda done: None, **options)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("frames", [1, 9, 17])
def test_the_latent_is_that_of_the_whole_encode(name, frames):
    vae, images = built(name), pixels(name, frames)
    whole = vae.encode(images)
    found = encoded(vae, images)
    assert found.shape == whole.shape and (found - whole).abs().max() <= 1e-4 and whole.std() > 0.01


@pytest.mark.parametrize("name", ["hunyuan", "mochi", "cosmos"])
def test_windows_are_core_s_tiles(name):
    vae, rate = built(name), VAES[name].rate
    images = pixels(name, 6 * rate + 1)
    window, overlap = 3 * rate + 1, rate + 1
    tiled = vae.encode_tiled(images, tile_x=512, tile_y=512, overlap=0, tile_t=window, overlap_t=overlap)
    found = encoded(vae, images, window=4, overlap=2)
    assert found.shape == tiled.shape and (found - tiled).abs().max() <= 1e-4
    assert torch.allclose(encoded(vae, images, window=8), vae.encode(images), atol=1e-4)


@pytest.fixture
def clip(tmp_path):
    """(A lossless file of 30 frames, its frames)."""
    images = (pixels("wan21", 30) * 255).byte()
    with av.open(str(tmp_path / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "bgr0"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image.numpy(), format="rgb24")))
        file.mux(stream.encode(None))
    return InputImpl.VideoFromFile(str(tmp_path / "clip.mkv")), images / 255


def test_a_file_is_read_frame_by_frame(clip):
    video, images = clip
    vae = built("wan21")
    latent, fps, frames = LongTakeEncodeVideo.execute(video, vae, 0, 0, 0, 0, 64, 16).args
    assert fps == 12 and frames == 29  # 4n + 1
    assert (latent["samples"] - vae.encode(images[:29])).abs().max() <= 1e-4
    latent, _, frames = LongTakeEncodeVideo.execute(video, vae, 0, 0, 8, 11, 64, 16).args
    assert frames == 9 and (latent["samples"] - vae.encode(images[8:17])).abs().max() <= 1e-4
    latent, _, _ = LongTakeEncodeVideo.execute(video, vae, 32, 24, 0, 1, 64, 16).args
    assert latent["samples"].shape == (1, 16, 1, 3, 4)


def test_frames_in_memory_are_taken_as_they_are(clip):
    """What Create Video gives."""
    images = clip[1]
    video = InputImpl.VideoFromComponents(VideoComponents(images=images, frame_rate=Fraction(12)))
    vae = built("wan21")
    latent, fps, frames = LongTakeEncodeVideo.execute(video, vae, 0, 0, 8, 9, 64, 16).args
    assert (fps, frames) == (12, 9) and latent["samples"].equal(encoded(vae, images[8:17]))


def test_a_trimmed_video_is_read_within_its_bounds(clip):
    video, images = clip
    trimmed = getattr(video, "as_trimmed", lambda *args: None)(1.0, 1.0)
    if trimmed is not None:  # newer cores
        reader = Reader(trimmed)
        assert reader.count == 12 and (reader.read(12) - images[12:24]).abs().max() < 0.01
        reader.close()


@pytest.mark.parametrize(("values", "words"), [
    ((0, 0, 30, 0, 64, 16), "start_frame: the video has 30 frames, none from 30 on"),
    ((64, 0, 0, 0, 64, 16), "width and height: set both or none"),
    ((0, 0, 0, 0, 64, 40), "overlap must be at most half of window"),
])  # fmt: skip
def test_what_cannot_be_is_named(clip, values, words):
    with pytest.raises(ValueError, match=rf"Encode Video \(LongTakeEncodeVideo\): {words}"):
        LongTakeEncodeVideo.execute(clip[0], built("wan21"), *values)

"""Video Metrics: its document and outputs, what it makes of any video, and one clear error for what it cannot use."""

import hashlib
import importlib.util
import math
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import pytest
import torch
import torch.nn.functional as F
from longtake.nodes.metric_encoders import LongTakeLoadMetricEncoder
from longtake.nodes.metrics import NUMBERS
from longtake.samplers.adapters import measure as reading
from longtake.samplers.adapters.metric_encoders import from_folder
from longtake.samplers.metrics import features
from longtake.samplers.windows import WindowSettings
from safetensors.torch import save_file
from support.metric_clips import image, panned, small
from support.metric_runs import document, measure, values, written
from support.tiny_encoders import saved, vit_model
from torchvision.models.optical_flow import raft_large

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes", "own_folders")

NODE = r"^Video Metrics \(LongTakeVideoMetrics\): "
CLIP = image(small())[:40]
SHORT = image(panned(6, 24, 40))
ALWAYS = ["temporal_flicker", "motion_smoothness", "warping_error", "dynamic_degree", "moving_share", "moving",
          "colour_drift", "colour_drift_end", "saturation_slope", "sharpness", "sharpness_ratio", "ssim_adjacent",
          "ssim_first", "scenes"]  # fmt: skip
SEAMS = ["seam_change", "seam_change_worst", "seam_warp", "seam_warp_worst", "seam_motion", "seam_motion_worst"]


# ---- what is put out ---------------------------------------------------------------------------------------------


def test_the_document_has_the_video_and_each_metric_with_all_that_is_known_of_it():
    found = document(measure(CLIP, boundaries="21, 9", fps=24.0))
    digest = hashlib.sha256((CLIP * 255).round().byte().numpy().tobytes()).hexdigest()
    size = {"height": 72, "width": 128}
    assert found["video"] == {"frames": 40, "fps": 24.0, **size, "boundaries": [9, 21], "sha256": digest}
    names = [one["metric"] for one in found["metrics"]]
    assert sorted(names) == sorted([*ALWAYS, *SEAMS, "window_consistency"]) and set(found) == {"video", "metrics"}
    for one in found["metrics"]:
        kinds = {"metric": str, "value": float, "unit": str, "better": int, "backend": str, "vbench_exact": bool,
                 "about": str}  # fmt: skip
        assert {name: type(value) for name, value in one.items()} == kinds
        assert one["about"] and one["unit"] and one["better"] in (-1, 0, 1)
    (motion,) = [one for one in found["metrics"] if one["metric"] == "dynamic_degree"]
    assert (motion["unit"], motion["backend"]) == ("px of 72", "Lucas-Kanade in place of RAFT")


def test_without_boundaries_there_are_no_seams():
    result = measure(CLIP)
    assert [one["metric"] for one in document(result)["metrics"]] == ALWAYS and result.args[2] == 0.0


@pytest.mark.parametrize("settings", [{}, {"boundaries": "17"}, {"boundaries": "2, 39"}])
@pytest.mark.parametrize("frames", [1, 2, 40])
def test_the_numbers_are_the_documents(frames, settings):
    """What cannot be said is null there, and no number here."""
    if frames < 40 and settings:
        return
    result = measure(CLIP[:frames], **settings)
    found = values(result)
    wanted = [found.get(name, 0.0) for name in NUMBERS]
    assert len(result.args) == 2 + len(NUMBERS)
    assert list(result.args[2:]) == pytest.approx([math.nan if v is None else v for v in wanted], abs=0, nan_ok=True)
    assert all(type(value) is float for value in result.args[2:])


def test_report_and_plot_are_shown():
    result = measure(CLIP, boundaries="17")
    (report,), plot = result.ui["longtake_report"], result.args[1]
    lines = report.splitlines()
    assert lines[0] == "| Metric | Value | Unit | Better |" and len(lines) == 2 + len(values(result))
    assert "| temporal_flicker | 0." in lines[2] and lines[2].endswith("| 0..1 | higher |")
    assert plot.shape[0] == 1 and plot.shape[-1] == 3 and plot.min() >= 0 and plot.max() <= 1 and plot.std() > 0.05
    assert len(result.ui["images"]) == 1 and result.ui["images"][0]["type"] == "temp"


def test_boundaries_are_those_of_the_windows():
    settings = WindowSettings(length=4, overlap=1)  # latent frames of 10: starts 0, 3, 6
    result = measure(CLIP[:37], windows=settings)
    assert document(result)["video"]["boundaries"] == [9, 21]
    assert result.args[0] == measure(CLIP[:37], boundaries="21,9,, 21").args[0]
    assert result.args[0] == measure(CLIP[:37], windows=WindowSettings(4, 1, "random_shift")).args[0]
    other = measure(CLIP[:37], windows=settings, boundaries="5")  # what is typed goes first
    assert document(other)["video"]["boundaries"] == [5]


def test_windows_that_hold_the_whole_video_are_none():
    assert measure(CLIP, windows=WindowSettings(length=13, overlap=6)).args[0] == measure(CLIP).args[0]


@pytest.mark.parametrize("rate", [16.0, 25.0])
def test_a_file_and_its_frames_are_the_same(tmp_path, rate):
    frames = CLIP[:20]
    found = measure(written(tmp_path / "clip.mkv", frames, rate=rate), fps=1.0, boundaries="9")
    assert found.args[0] == measure(frames, fps=rate, boundaries="9").args[0]


def test_alpha_and_what_is_beyond_white_and_black_count_nothing():
    wanted = measure(SHORT).args[0]
    assert measure(torch.cat([SHORT, torch.rand(6, 24, 40, 1)], -1)).args[0] == wanted
    beyond = torch.where(SHORT > 0.5, SHORT + 9, SHORT - 9)
    assert measure(beyond).args[0] == measure(beyond.clamp(0, 1)).args[0] != wanted


# ---- encoders ----------------------------------------------------------------------------------------------------


def test_an_encoder_adds_what_its_features_say(clip_folder):
    encoder = from_folder(clip_folder)
    texts = {"global_prompt": "red", "events": "0f: cat\n14f: dog"}
    result = measure(CLIP, encoder=encoder, boundaries="17", **texts)
    found, images = values(result), encoder.images(CLIP)
    assert result.args[-1] == found["consistency"] == pytest.approx(features.consistency(images).mean().item())
    own = torch.arange(40) // 14 > 0
    local, accuracy, _ = features.fidelity(images, encoder.texts(["red, cat", "red, dog"]), own.long())
    assert found["prompt_global"] == pytest.approx(features.global_fidelity(images, encoder.texts(["red"]))[0])
    assert (found["prompt_local"], found["prompt_accuracy"]) == pytest.approx((local, accuracy))
    assert {"seam_feature", "window_likeness"} < found.keys() and len(found) == len(ALWAYS) + len(SEAMS) + 7
    about = {one["metric"]: one for one in document(result)["metrics"]}
    assert about["consistency"]["backend"] == encoder.name and not about["consistency"]["vbench_exact"]
    without = measure(CLIP, encoder=encoder)
    assert set(values(without)) == {*ALWAYS, "consistency"} and without.args[-1] == result.args[-1]


def test_events_alone_are_taken_as_they_are(clip_folder):
    encoder = from_folder(clip_folder)
    found, images = values(measure(CLIP, encoder=encoder, events="cat | dog")), encoder.images(CLIP)
    local, accuracy, _ = features.fidelity(images, encoder.texts(["cat", "dog"]), torch.arange(40) // 20)
    assert (found["prompt_local"], found["prompt_accuracy"]) == pytest.approx((local, accuracy))
    assert "prompt_global" not in found


def test_an_encoder_of_vbench_has_vbenchs_name_and_the_same_output(tmp_path):
    encoder = from_folder(saved(tmp_path / "dino", vit_model()))
    plain = measure(SHORT, encoder=encoder)
    encoder.exact = "subject_consistency"
    result = measure(SHORT, encoder=encoder)
    assert values(result)["subject_consistency"] == values(plain)["consistency"] == result.args[-1] == plain.args[-1]
    assert "consistency" not in values(result)


def test_no_encoder_is_the_same_as_none():
    (none,) = LongTakeLoadMetricEncoder.execute("(none)").args
    assert measure(SHORT, encoder=none).args[0] == measure(SHORT).args[0] and measure(SHORT).args[-1] == 0.0


AESTHETIC = "aesthetic.safetensors"


def test_the_aesthetic_score_of_a_head_in_the_encoders_folder(clip_folder):
    head = torch.nn.Linear(16, 1)
    plain = document(measure(SHORT, encoder=from_folder(clip_folder)))["metrics"]
    assert "aesthetic_quality" not in {one["metric"] for one in plain}
    with torch.inference_mode(False):
        save_file(head.state_dict(), clip_folder / AESTHETIC)
    encoder = from_folder(clip_folder)
    found = {one["metric"]: one for one in document(measure(SHORT, encoder=encoder))["metrics"]}["aesthetic_quality"]
    seen = encoder.images(SHORT)
    wanted = [head(frame / frame.norm()).item() / 10 for frame in seen]
    assert found["value"] == pytest.approx(sum(wanted) / len(wanted), abs=1e-6)
    assert not found["vbench_exact"] and found["better"] == 1 and found["backend"] == encoder.name


@pytest.mark.parametrize("weights", [{}, {"weight": (1, 17), "bias": (1,)}, {"weight": (1, 16)}, {"w": (1, 16)}])
def test_a_head_of_another_size_is_named(clip_folder, weights):
    with torch.inference_mode(False):
        save_file({name: torch.zeros(shape) for name, shape in weights.items()}, clip_folder / AESTHETIC)
    with pytest.raises(ValueError, match=NODE + r"encoder: .*aesthetic\.safetensors has .* must have"):
        measure(SHORT, encoder=from_folder(clip_folder))


@pytest.mark.parametrize("name", ["aesthetic", "musiq"])
def test_weights_beside_the_encoder_that_cannot_be_read_are_named(clip_folder, name):
    (clip_folder / f"{name}.safetensors").write_bytes(b"\x80\x04nothing")
    with pytest.raises(ValueError, match=NODE + rf"encoder: .*{name}\.safetensors cannot be read as safetensors"):
        measure(SHORT, encoder=from_folder(clip_folder))


# ---- motion by RAFT ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_the_optical_flow_of_newer_cores_finds_the_motion(size):
    """As its Load Optical Flow Model puts it out, here with weights by chance."""
    device = comfy.model_management.get_torch_device()
    torch.manual_seed(0)
    raft = comfy.model_patcher.ModelPatcher(raft_large(weights=None, progress=False).eval(), device, device)
    result = measure(image(panned(3, *size)), optical_flow=raft)
    found = {one["metric"]: one for one in document(result)["metrics"]}
    for name, by in (("warping_error", "{}"), ("dynamic_degree", "{} in place of RAFT"),
                     ("motion_smoothness", "{} in place of AMT-S")):  # fmt: skip
        assert found[name]["backend"] == by.format("RAFT (OPTICAL_FLOW)")
    assert all(math.isfinite(found[name]["value"]) for name in ("motion_smoothness", "dynamic_degree"))
    other = values(measure(image(panned(3, *size))))
    assert found["dynamic_degree"]["value"] != other["dynamic_degree"]
    assert found["temporal_flicker"]["value"] == other["temporal_flicker"]


class Between(torch.nn.Module):
    """Called as core calls RIFE and FILM: the mean of both, and what it was given."""

    pad_align = 64

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

    def get_dtype(self):
        return torch.float32

    def memory_used_forward(self, shape, dtype):
        return 0

    def forward(self, a, b, timestep=0.5, cache=None):
        self.seen.append((tuple(a.shape), timestep.unique().tolist(), tuple(timestep.shape)))
        return self.weight * (a + b) / 2


def interpolators():
    """The stand-in, and core's own networks where it has them, with weights by chance."""
    found = {"mean": Between}
    if importlib.util.find_spec("comfy_extras.frame_interpolation_models"):
        from comfy_extras.frame_interpolation_models.film_net import FILMNet
        from comfy_extras.frame_interpolation_models.ifnet import IFNet

        found |= {"FILM": FILMNet, "RIFE": lambda: IFNet(head_ch=4, channels=[24, 16, 12, 8, 8])}
    return found


@pytest.mark.parametrize("name", interpolators())
@pytest.mark.parametrize("frames", [3, 6, 9])
def test_smoothness_by_the_frame_interpolation_of_newer_cores(name, frames):
    device = comfy.model_management.get_torch_device()
    torch.manual_seed(0)
    net = interpolators()[name]().eval()
    for weight in net.parameters():
        weight.data = torch.randn_like(weight) * 0.05 + (name == "mean")
    model = comfy.model_patcher.ModelPatcher(net, device, device)
    video = torch.rand(frames, 72, 80, 3, generator=torch.Generator().manual_seed(1))
    found = {one["metric"]: one for one in document(measure(video, interp_model=model))["metrics"]}
    smooth = found["motion_smoothness"]
    assert smooth["backend"] == f"{type(net).__name__} (INTERP_MODEL) in place of AMT-S"
    assert found["warping_error"]["backend"] == reading.PLAIN
    images, align, made = video.movedim(-1, 1), getattr(net, "pad_align", 1), []
    with torch.no_grad():
        for i in range(1, frames - 1, 2):
            if name == "mean":
                made.append((images[i - 1] + images[i + 1]) / 2 * net.weight)
                continue
            edge = (0, -80 % align, 0, -72 % align)
            pair = (F.pad(images[k : k + 1], edge, mode="reflect") for k in (i - 1, i + 1))
            half = 0.5 if name == "FILM" else torch.full((1, 1, 128, 128), 0.5)
            made.append(net(*pair, timestep=half)[0, :, :72, :80])
    wanted = 1 - sum((a.clamp(0, 1) - images[2 * k + 1]).abs().mean().item() for k, a in enumerate(made)) / len(made)
    assert smooth["value"] == pytest.approx(wanted, abs=1e-5)
    if name == "mean":
        assert set(net.seen[0][0]) == {1, 3, 128} and all(one[1:] == ([0.5], (1, 1, 128, 128)) for one in net.seen)
    other = values(measure(video))
    assert other["motion_smoothness"] != smooth["value"]
    assert other["temporal_flicker"] == found["temporal_flicker"]["value"]


@pytest.mark.parametrize("name", interpolators())
def test_frames_too_small_for_the_frame_interpolation_are_named(name):
    device = comfy.model_management.get_torch_device()
    model = comfy.model_patcher.ModelPatcher(interpolators()[name]().eval(), device, device)
    with pytest.raises(ValueError, match=NODE + r"video: interp_model: \w+ cannot take frames of 24x20 "):
        measure(torch.rand(3, 20, 24, 3), interp_model=model)


def test_flow_is_in_pixels_of_the_frames_whatever_size_raft_needs():
    """A network that sees one motion, 4 pixels to the right and 2 down at the size that it is given."""
    shapes = []

    class Moved(torch.nn.Module):
        def forward(self, a, b):
            shapes.append(tuple(a.shape))
            assert a.min() < -0.9 and a.max() <= 1 and a.min() >= -1
            return [None, torch.tensor([4.0, 2.0]).view(1, 2, 1, 1).expand(len(a), 2, *a.shape[2:])]

    device = comfy.model_management.get_torch_device()
    flow = reading.raft(comfy.model_patcher.ModelPatcher(Moved(), device, device))
    for size, seen in (((64, 96), (128, 192)), ((130, 200), (136, 200)), ((256, 384), (256, 384))):
        pictures = torch.zeros(2, 3, *size)
        pictures[..., :9] = 1
        found = flow(pictures, pictures)
        assert found.shape == (2, 2, *size) and shapes[-2:] == [(1, 3, *seen)] * 2
        wanted = [4 * size[1] / seen[1], 2 * size[0] / seen[0]]
        assert found[1, :, 5, 7].tolist() == pytest.approx(wanted, abs=1e-5)


# ---- refusals ----------------------------------------------------------------------------------------------------


def with_nan():
    frames = SHORT.clone()
    frames[4, 3, 3, 1] = math.nan
    return frames


@pytest.mark.parametrize("video, words", [
    (with_nan(), r"video: frame 4 has values that are no numbers"),
    (SHORT * math.inf, r"video: frame 0 has values that are no numbers"),
    (SHORT[:0], r"video: no frames in it"),
    (SHORT[:, :0], r"video: no frames in it"),
    (SHORT[..., :1], r"video: an IMAGE of the shape \[6, 24, 40, 1\]"),
    (SHORT[0], r"video: an IMAGE of the shape \[24, 40, 3\]"),
    ((255 * SHORT).byte(), r"video: frames of the type torch.uint8; they must be floating point"),
])  # fmt: skip
def test_bad_frames_are_named(video, words):
    with pytest.raises(ValueError, match=NODE + words) as caught:
        measure(video, save_as="kept")
    assert "\n" not in str(caught.value) and not Path(folder_paths.output_directory).exists()


@pytest.mark.parametrize("settings, words", [
    ({"boundaries": "0"}, r"boundaries \(0\) must be the frames that windows begin with"),
    ({"boundaries": "abc"}, r"boundaries \(abc\) must be"),
    ({"boundaries": "3, -2"}, r"boundaries \(3, -2\) must be"),
    ({"boundaries": "1.5"}, r"boundaries \(1.5\) must be"),
    ({"boundaries": "9" * 9999}, r"boundaries \(9{36}\.\.\.\) must be"),
    ({"boundaries": "3, 6"}, r"boundaries: there is no frame 6 in a video of 6 frames"),
    ({"boundaries": 3}, r"boundaries must be text, not 3"),
    ({"fps": math.nan}, r"fps \(nan\) must be between"),
    ({"fps": 0.0}, r"fps \(0.0\) must be between"),
    ({"save_as": "../x"}, r"save_as: \.\./x is no name of a collection"),
    ({"save_as": "a/b"}, r"save_as: a/b is no name"),
    ({"save_as": "a\\b"}, r"save_as: .* is no name"),
    ({"save_as": "x\ny"}, r"save_as: x\\ny is no name"),
    ({"save_as": ".x"}, r"save_as: \.x is no name"),
    ({"save_as": "nul.x"}, r"save_as: nul\.x is no name .* Windows"),
    ({"save_as": "x" * 101}, r"save_as: x+\.\.\. is no name"),
    ({"global_prompt": "red"}, r"global_prompt and events need an encoder"),
    ({"events": "a | b"}, r"global_prompt and events need an encoder"),
    ({"optical_flow": torch.zeros(3)}, r"optical_flow: not the model of .* but Tensor"),
    ({"interp_model": torch.zeros(3)}, r"interp_model: not the model of .* but Tensor"),
])  # fmt: skip
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=NODE + words) as caught:
        measure(SHORT, **settings)
    assert "\n" not in str(caught.value)


def test_prompts_that_cannot_be_read_are_named(clip_folder, tmp_path):
    encoder = from_folder(clip_folder)
    for events, words in (("0f: a\n9f: b", "events: .*9f.* is past the end"), ("a | | b", "events: prompt 2 of")):
        with pytest.raises(ValueError, match=NODE + words):
            measure(SHORT, encoder=encoder, events=events)
    with pytest.raises(ValueError, match=NODE + ".*has no text encoder; prompts need"):
        measure(SHORT, encoder=from_folder(saved(tmp_path / "dino", vit_model())), global_prompt="red")


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 5), (8, 8), (11, 300)])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_frames_of_any_size_and_number_have_stated_values(frames, size, clip_folder):
    numbers = torch.rand(frames, *size, 3, generator=torch.Generator().manual_seed(0))
    found = values(measure(numbers, boundaries="1" if frames > 1 else "", encoder=from_folder(clip_folder)))
    unknown = {name for name, value in found.items() if value is None}
    steps = max(2, 1 + round(16 / 8))  # frames that it takes to say that something moves
    never = {"seam_motion", "seam_motion_worst"} if frames > 1 else set()  # into frame 1 there is no motion before
    by_frames = (
        (1, {"temporal_flicker", "warping_error", "dynamic_degree", "colour_drift", "saturation_slope",
             "ssim_adjacent", "ssim_first", "consistency"}),
        (2, {"motion_smoothness"}), (steps - 1, {"moving", "moving_share"}))  # fmt: skip
    wanted = never.union(*(names for most, names in by_frames if frames <= most))
    if frames == 2:
        wanted |= {"seam_change", "seam_change_worst", "seam_warp", "seam_warp_worst", "seam_feature"}
    flat = {"sharpness_ratio"} if min(size) < 3 else set()
    hidden = {"warping_error", "seam_warp", "seam_warp_worst"}  # if of a few pixels none is seen in both frames
    assert wanted | flat <= unknown <= wanted | flat | (hidden if max(size) < 4 else set())
    assert all(-1 <= value <= 1e5 for value in found.values() if value is not None) and found["scenes"] == 1

"""A U-Net whose batch is the video, core's SVD at a tiny size: windows along the batch, as core's Context Windows with
dim 0 cut them, and what each of them sees."""

import comfy.context_windows as core
import comfy.controlnet
import comfy.latent_formats
import comfy.sample
import pytest
import torch
from comfy_extras.nodes_video_model import VideoLinearCFGGuidance, VideoTriangleCFGGuidance
from longtake.nodes.windows import LongTakeWindowScheduler
from longtake.samplers.adapters import preview
from longtake.samplers.adapters.frame_batch import as_batch, as_video
from longtake.samplers.adapters.memory import prepare
from longtake.samplers.adapters.window import NEW_CORE, window_weights
from longtake.samplers.freelong import BandBlend, SpectralBlend
from longtake.samplers.glc.paths import GlobalPath, dilated_windows
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.windows import WindowSettings, local_windows
from support import tiny_svd, tiny_wan, zoo
from support.compare import difference
from support.tiny_svd import CLOSE, FRAMES, run
from support.windows import LENGTH, OVERLAP, anchored, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
STARTS = [w.indices[0] for w in local_windows(WindowSettings(LENGTH, OVERLAP), FRAMES, 0)]


@pytest.fixture(scope="module")
def model():
    return tiny_svd.patcher()


@pytest.fixture
def mended(monkeypatch):
    """Core 0.3.75 cannot run a batch in windows: it compares every row's sigma with all steps', and indexes with a
    list, which newer PyTorch reads as something else. Its windows and weights are as later cores have them."""
    if not NEW_CORE:
        window, handler = core.IndexListContextWindow, core.IndexListContextHandler
        set_step = handler.set_step

        def get_tensor(self, full, device=None, dim=None):
            return full if full.shape[0] == 1 else full[self.index_list].to(device)

        def add_window(self, full, to_add, dim=None):
            full[self.index_list] += to_add
            return full

        monkeypatch.setattr(window, "get_tensor", get_tensor)
        monkeypatch.setattr(window, "add_window", add_window)
        monkeypatch.setattr(handler, "set_step", lambda self, sigma, options: set_step(self, sigma[:1], options))


def core_windowed(model, fuse):
    model = model.clone()
    options = {"causal_window_fix": False} if NEW_CORE else {}
    model.model_options["context_handler"] = core.IndexListContextHandler(
        core.get_matching_context_schedule("standard_static"), core.get_matching_fuse_method(fuse),
        context_length=LENGTH, context_overlap=OVERLAP, dim=0, **options,
    )  # fmt: skip
    return model


def test_a_batch_is_seen_as_a_video_and_back():
    x = torch.randn(5, 4, 3, 2)
    video = as_video(x)
    assert video.shape == (1, 4, 5, 3, 2) and torch.equal(video[0, :, 2], x[2])
    assert torch.equal(as_batch(video), x) and as_batch(video).data_ptr() == video.data_ptr() == x.data_ptr()
    two = torch.randn(2, 4, 5, 3, 2)
    assert torch.equal(as_batch(two)[5:], two[1].movedim(1, 0))


@pytest.mark.parametrize("more", [{}, {"schedule": "random_shift"}, {"extra_path": GlobalPath(0.3)}])
def test_one_window_is_a_plain_sampler(model, more):
    assert difference(run(windowed(model, **more), LENGTH), run(model, LENGTH)) == 0.0


@pytest.mark.parametrize("fuse", ["flat", "pyramid", "overlap-linear"])
def test_static_windows_equal_cores(model, fuse, mended):
    ours = run(windowed(model, fuse=fuse))
    assert difference(ours, run(core_windowed(model, fuse))) < CLOSE
    assert difference(ours, run(model)) > 1e-2


def test_static_windows_equal_cores_with_an_image_for_each_frame(model, mended):
    """Core 0.3.75 hands every window the first one's frames of them."""
    given = {"concat_latent_image": zoo.randn(FRAMES, 4, 8, 8, seed=3)}
    prompts = {"positive": tiny_svd.prompt(1, **given), "negative": tiny_svd.prompt(2, **given)}
    apart = difference(run(windowed(model), **prompts), run(core_windowed(model, "pyramid"), **prompts))
    assert apart < CLOSE if NEW_CORE else apart > 1e-2


def test_one_evaluation_equals_its_definition(model):
    """Windows of frames cut, told their number of frames, predicted and averaged by hand."""
    seen = {}

    def look(args):
        for name, key in (("x", "input"), ("cond", "cond_denoised"), ("sigma", "sigma")):
            seen.setdefault(name, args[key].clone())
        return args["denoised"]

    images, texts = zoo.randn(FRAMES, 4, 8, 8, seed=3), zoo.randn(FRAMES, 1, tiny_svd.CONTEXT, seed=4)
    positive = [[texts, {**tiny_svd.prompt(1)[0][1], "concat_latent_image": images}]]
    path = GlobalPath(0.3, 0.0)
    ours = windowed(model, extra_path=path)
    ours.set_model_sampler_post_cfg_function(look)
    run(ours, positive=positive)
    settings = WindowSettings(LENGTH, OVERLAP)
    adm = model.model.encode_adm(**positive[0][1])
    out = []
    for windows, local in ((local_windows(settings, FRAMES, 0), True), (dilated_windows(FRAMES, LENGTH), False)):
        top, bottom = torch.zeros_like(seen["x"]), torch.zeros(FRAMES)
        for w in windows:
            frames = list(w.indices)
            with torch.no_grad():
                part = model.model.apply_model(
                    seen["x"][frames], seen["sigma"][frames], c_concat=images[frames],
                    c_crossattn=texts[frames], y=adm.repeat(LENGTH, 1), num_video_frames=LENGTH)
            weights = window_weights(settings, w, FRAMES, None) if local else [1.0] * w.real
            for weight, frame, x0 in zip(weights, w.own, part, strict=False):
                top[frame] += weight * x0
                bottom[frame] += weight
        out.append(top / bottom.view(-1, 1, 1, 1))
    torch.testing.assert_close(seen["cond"], 0.7 * out[0] + 0.3 * out[1], atol=CLOSE, rtol=1e-5)
    assert difference(out[0], out[1]) > 1e-2


@pytest.mark.parametrize("batch", [1, 3])
def test_every_window_sees_its_own_frames(model, batch):
    images = zoo.randn(FRAMES, 4, 8, 8, seed=3)
    texts = zoo.randn(2, 1, tiny_svd.CONTEXT, seed=4)  # two rows, which core repeats over the batch
    positive = [[texts, {**tiny_svd.prompt(1)[0][1], "concat_latent_image": images}]]
    recorder, calls = tiny_svd.record(windowed(model, window_batch=batch))
    run(recorder, positive=positive, cfg=1.0, steps=1)
    count = 0
    for x, note, c in calls:
        windows = note["windows"]
        count += len(windows)
        assert len(x) == LENGTH * len(windows) and c["num_video_frames"] == LENGTH
        frames = [i for w in windows for i in w]
        assert torch.equal(c["c_concat"], images[frames])
        assert torch.equal(c["c_crossattn"], texts[[i % 2 for i in frames]])
    assert count == len(STARTS)


def test_per_frame_vectors_of_sv3d(model):
    """SV3D_p tells each view its camera: a window gets those of its own frames."""
    sv3d = tiny_svd.patcher("SV3D_p", adm_in_channels=1280)
    turn = {"elevation": [0.0] * FRAMES, "azimuth": [float(i) * 20 for i in range(FRAMES)]}
    prompts = {"positive": tiny_svd.prompt(1, **turn), "negative": tiny_svd.prompt(2, **turn)}
    recorder, calls = tiny_svd.record(sv3d)
    run(recorder, steps=1, cfg=1.0, **prompts)
    whole = calls[0][2]["y"]
    recorder, calls = tiny_svd.record(windowed(sv3d))
    run(recorder, steps=1, cfg=1.0, **prompts)
    for start, (_, _, c) in zip(STARTS, calls, strict=True):
        assert torch.equal(c["y"], whole[start : start + LENGTH])
    assert difference(run(windowed(sv3d), LENGTH), run(sv3d, LENGTH)) == 0.0


@pytest.mark.parametrize("more", [
    {"schedule": "random_shift", "shift_seed": 4}, {"schedule": "rolling"},
    {"overlap": 4, "schedule": "random_shift_each"},
    {"closed_loop": True}, {"overlap_end": 0}, {"retain": (0,)}, {"extra_path": SpectralBlend(GlobalPath(1.0, 0.0))},
    {"extra_path": GlobalPath(0.3, pooled=True, rate=2, padding="both_ends")},
    {"extra_path": BandBlend(GlobalPath(1.0, 0.0))},
])  # fmt: skip
def test_all_that_windows_can_do_is_done_and_batching_agrees(model, more):
    given = {"concat_latent_image": zoo.randn(FRAMES, 4, 8, 8, seed=3)}
    prompts = {"positive": tiny_svd.prompt(1, **given), "negative": tiny_svd.prompt(2, **given)}
    prompts["steps"] = 3
    out = run(windowed(model, **more), **prompts)
    assert out.shape == (FRAMES, 4, 8, 8) and out.isfinite().all()
    assert difference(out, run(windowed(model), **prompts)) > 1e-2
    assert difference(out, run(windowed(model, **more), **prompts)) == 0.0
    assert difference(out, run(windowed(model, **{**more, "window_batch": 4}), **prompts)) < CLOSE


@pytest.mark.parametrize("node", [VideoLinearCFGGuidance, VideoTriangleCFGGuidance])
def test_guidance_by_frame_goes_by_the_whole_video(model, node):
    """Core's nodes scale it by a frame's place: that in the video, not that in a window."""
    (guided,) = node().patch(model, 1.0)
    seen = {}

    def look(args):
        seen.setdefault("args", {k: args[k].clone() for k in ("cond_denoised", "uncond_denoised", "denoised")})
        return args["denoised"]

    looked = windowed(guided)
    looked.set_model_sampler_post_cfg_function(look)
    run(looked)
    cond, uncond, made = seen["args"].values()
    place = torch.linspace(0, 1, FRAMES)
    scale = 1 + (place if node is VideoLinearCFGGuidance else 1 - (2 * place - 1).abs())
    torch.testing.assert_close(made, uncond + scale.view(-1, 1, 1, 1) * (cond - uncond), atol=CLOSE, rtol=1e-4)
    assert difference(run(windowed(guided), LENGTH), run(guided, LENGTH)) == 0.0


def test_prompts_have_their_times(model):
    """Each window the event at its centre; one pixel frame to a latent frame."""
    spans = [(0, 5), (5, FRAMES)]
    entries = tiny_svd.prompt(1, longtake_span=None)
    for i, (start, end) in enumerate(spans):
        span = Span(index=i, start=start, end=end, blend=0.0, total=FRAMES)
        entries += tiny_svd.prompt(10 + i, longtake_span=span, start_percent=1.0, end_percent=0.0)
    recorder, calls = tiny_svd.record(windowed(model, compression=1))
    run(recorder, positive=entries, cfg=1.0, steps=1)
    for start, (_, _, c) in zip(STARTS, calls, strict=True):
        expected = tiny_svd.prompt(10 + int(start + 2 >= 5))[0][0]
        assert torch.equal(c["c_crossattn"], expected.expand(LENGTH, -1, -1))


def test_a_mask_keeps_frames_and_leaves_windows_out(model):
    mask = torch.zeros(FRAMES, 1, 8, 8)
    mask[6:8] = 1
    start = run(model)
    recorder, calls = tiny_svd.record(windowed(model))
    made = run(recorder, start=start, mask=mask, cfg=1.0, seed=9)
    kept = [i for i in range(FRAMES) if i not in (6, 7)]
    assert torch.equal(made[kept], start[kept]) and difference(made[6:8], start[6:8]) > 1e-2
    touching = [s for s in STARTS if any(s <= i < s + LENGTH for i in (6, 7))]
    assert len(calls) == tiny_svd.STEPS * len(touching) < tiny_svd.STEPS * len(STARTS)


def test_a_masked_prompt_acts_where_it_lies(model):
    """A mask with a picture for each frame: a window gets those of its own frames."""
    mask = torch.zeros(FRAMES, 64, 64)
    mask[: FRAMES // 2] = 1.0
    positive = tiny_svd.prompt(1, mask=mask, mask_strength=1.0) + tiny_svd.prompt(3, mask=1 - mask, mask_strength=1.0)
    out = run(windowed(model), positive=positive, cfg=1.0, steps=1)
    plain = [run(windowed(model), positive=tiny_svd.prompt(seed), cfg=1.0, steps=1) for seed in (1, 3)]
    assert difference(out[:3], plain[0][:3]) < CLOSE
    assert difference(out[-3:], plain[1][-3:]) < CLOSE
    assert difference(plain[0], plain[1]) > 1e-2


def test_memory_is_reserved_for_one_calls_windows(model):
    asked = []

    def executor(_, shape, *args, **kwargs):
        asked.append(list(shape))

    for batch, windows in ((1, 1), (3, 3), (64, len(STARTS))):
        own = windowed(model, window_batch=batch)
        prepare(executor, own, (FRAMES, 4, 8, 8), {}, model_options=own.model_options)
        shape = asked.pop()
        shape[0] = min(shape[0], LENGTH)  # core's own wrapper, after ours
        assert shape[0] * shape[2] * shape[3] == windows * LENGTH * 64


def test_the_filmstrip_shows_the_batch_as_a_video():
    colours = preview.colours_of(comfy.latent_formats.SD15())
    strip = preview.Filmstrip(colours, 1, 3, lambda data: None, framed=True)
    image, frames = strip.picture(torch.randn(20, 4, 8, 8), 16)
    assert image and len(frames) == 16 and frames[0] == 0 and frames[-1] == 19
    assert preview.Filmstrip(colours, 1, 3, lambda data: None).picture(torch.randn(20, 4, 8, 8), 16) == (None, [])


def execute(model, **changes):
    inputs = LongTakeWindowScheduler.define_schema().inputs
    values = {i.id: i.default for i in inputs if i.id not in ("model", "latent")}
    return LongTakeWindowScheduler.execute(**values | {"model": model, **changes})


def test_the_node_counts_in_frames(model):
    made = execute(model, window_length=25, overlap=12, latent={"samples": tiny_svd.latent(50)})
    assert made.ui == {"longtake_compression": [1]}
    settings, report = made.args[1], made.args[2]
    assert (settings.length, settings.overlap, settings.compression) == (25, 12, 1)
    assert "25 pixel frames = 25 latent frames" in report and "cost of 50 latent frames" in report
    assert made.args[0].model_options["context_handler"].dim == 0


def test_what_cannot_be_is_refused_by_name(model):
    with pytest.raises(ValueError, match=r"first_latent \(anchor\): SVD_img2vid codes each frame by itself.*as_is"):
        windowed(model, first_latent="anchor")
    with pytest.raises(ValueError, match="Anchor Attention.*UNetModel is not a model whose attention is known"):
        anchored(windowed(model))
    with pytest.raises(ValueError, match=r"latent: its shape is \(1, 4, 9, 8, 8\).*4 dimensions \[frames"):
        execute(model, latent={"samples": torch.zeros(1, 4, 9, 8, 8)})
    with pytest.raises(ValueError, match=r"the latent has the shape \(1, 4, 11, 8, 8\).*4 dimensions \[frames"):
        run(windowed(model), start=torch.zeros(1, 4, FRAMES, 8, 8))
    timed = tiny_svd.prompt(1, longtake_span=None)
    for i in range(2):
        span = Span(index=i, start=5 * i, end=5 * i + 5 + i, blend=0.0, total=FRAMES, timing="frame")
        timed += tiny_svd.prompt(2, longtake_span=span, start_percent=1.0, end_percent=0.0)
    with pytest.raises(ValueError, match=r"timing \(frame\): UNetModel.*set timing to window"):
        run(windowed(model, compression=1), positive=timed)


def test_pictures_of_a_controlnet_are_one_or_refused(model):
    def control(count):
        held = comfy.controlnet.ControlBase()
        held.set_cond_hint(torch.zeros(count, 3, 64, 64))
        return held

    handler = windowed(model).model_options["context_handler"]
    options = {"transformer_options": {}}
    for count in (1, 14):
        other = comfy.controlnet.ControlBase()
        other.set_previous_controlnet(control(count))
        conds = [[{"model_conds": {}, "control": other}], None]
        ask = (model.model, conds, torch.zeros(FRAMES, 4, 8, 8), torch.ones(FRAMES), options)
        if count == 1:
            assert handler.should_use_context(*ask)
        else:
            with pytest.raises(ValueError, match="the 14 pictures of a ControlNet.*give it one picture"):
                handler.should_use_context(*ask)


def test_pictures_are_no_video(model):
    """A batch of an image model is never cut; nor is AnimateDiff-Evolved's, which cuts by itself."""
    config = {k: v for k, v in tiny_svd.NET.items() if "temporal" not in k and k != "video_kernel_size"}
    for key in ("extra_ff_mix_layer", "use_spatial_context", "merge_strategy", "merge_factor", "num_classes"):
        config.pop(key)
    picture = zoo.constructed("SD15", {**config, "in_channels": 4, "adm_in_channels": None, "num_heads": 8,
                                       "num_head_channels": -1})  # fmt: skip
    with pytest.raises(ValueError, match="this is an image model .latent format SD15."):
        execute(picture)
    evolved = picture.clone()
    evolved.set_additional_models("ADE", [picture])
    with pytest.raises(ValueError, match="AnimateDiff-Evolved.*use its Context Options"):
        execute(evolved)
    latent = torch.zeros(9, 16, 4, 4)
    with pytest.raises(ValueError, match=r"the latent has the shape \(9, 16, 4, 4\).*5 dimensions"):
        comfy.sample.sample(
            windowed(tiny_wan.patcher()), latent, 1, 1.0, "euler", "simple", tiny_wan.prompt(1), tiny_wan.prompt(2),
            latent, disable_pbar=True, seed=1,
        )  # fmt: skip

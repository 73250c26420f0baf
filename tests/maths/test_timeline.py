"""Prompt timeline: the text dialects, the weights, and the CONDITIONING in ComfyUI's own sampling."""

import json
import random

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import pytest
import torch
from longtake.nodes.prompts import NEVER, PromptTimeline
from longtake.samplers.prompts import timeline
from longtake.samplers.prompts.timeline import Event, Span, TimelineError, parse_timeline, span_weights, spans

import nodes as comfy_nodes

LENGTH, FPS = 96, 16.0  # 6 seconds


def brief(text, length=LENGTH, fps=FPS):
    return [(e.text, e.start, e.end) for e in parse_timeline(text, length, fps)]


THREE = [("a", 0, 32), ("b", 32, 64), ("c", 64, 96)]


@pytest.mark.parametrize(
    "text",
    [
        "a | b | c",
        "a|b\n|\r\nc\n",
        "[0-2s] a\n[2-4s] b\n[4-6s] c",
        "[0s-2s] a\n\n  [32f - 64f]: b\n[4s\u20136s]c",
        "0s: a\n2s: b\n4s: c",
        "0: a\r\n32: b\r\n64: c\r\n",
        "0F: a\n2 S : b\n66.7%: c",
        "0-2s: a\n32-64: b\n64: c",
        "[0] a\n[2s] b\n[64] c",
        '{"0": "a", "32": "b", "64": "c"}',
        '\ufeff { "4s": "c", "0-2s": "a",\n "33.3%": "b" }',
    ],
)
def test_dialects_agree(text):
    assert brief(text) == THREE


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "a man says: hello",
        "16:9 video of a cat",
        "12:30 pm, a street",
        "100% cotton, 3 dogs",
        "a (red:1.2) circle, [blue] sky",
        "(red:1.2) circle",
        "a street\nat night: rain",
        "\u05e2\u05d9\u05d2\u05d5\u05dc \u05d0\u05d3\u05d5\u05dd \U0001f534",
    ],
)
def test_plain_text_is_one_event(text):
    assert brief(text) == [(text, 0, LENGTH)]


def test_separators_inside_prompts_stay():
    assert brief('{"0": "a | b", "48": "3s: [x]"}') == [("a | b", 0, 48), ("3s: [x]", 48, 96)]
    assert brief("0s: a | b: c\n3s: d") == [("a | b: c", 0, 48), ("d", 48, 96)]
    assert brief("a \\| b | c") == [("a | b", 0, 48), ("c", 48, 96)]
    assert brief("0s: the man says: (hello:1.3)") == [("the man says: (hello:1.3)", 0, 96)]


def test_unmarked_lines_continue_the_prompt_above():
    assert brief("0s: a\nmore of a\n3s:\nb") == [("a\nmore of a", 0, 48), ("b", 48, 96)]


def test_gaps_are_filled_and_reported():
    events = parse_timeline("[1-2s] a\n[4-5s] b", LENGTH, FPS)
    assert events == [Event("a", 0, 64, (16, 32)), Event("b", 64, 96, (64, 80))]
    lines = timeline.report(events, ["g, a", "g, b"], "g", FPS).splitlines()
    assert lines[0] == "2 events in 96 pixel frames = 6.00 s at 16 fps"
    assert lines[2].split() == ["0", "-", "63", "0.00", "-", "4.00", "g,", "a"]
    assert lines[3].split() == ["64", "-", "95", "4.00", "-", "6.00", "g,", "b"]
    assert [line.split(" was")[0] for line in lines[5:]] == ["Event 1", "Event 1", "Event 2"]


def test_the_rounded_end_of_the_video_is_its_end():
    assert brief("0s: a\n[18-18.33s] b", 293, 16.0)[-1] == ("b", 288, 293)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["events is empty", "0s:"]),
        (" \r\n\t", ["events is empty"]),
        ("a || b", ["prompt 2 of the 3", "empty"]),
        ("a | b |", ["prompt 3 of the 3", "empty"]),
        (" | ".join("x" * 97), ["97 prompts", "96 pixel frames"]),
        ("0s: a\n3s:", ["line 2", "no prompt"]),
        ("[0-3s] a\n[2-5s] b", ["line 1", "line 2", "overlap", "48", "32"]),
        ("[0-3s] a\n1s: b", ["line 1", "line 2", "overlap"]),
        ("3s: a\n0s: b", ["line 2", "frame 0", "line 1", "frame 48"]),
        ("3s: a\n48: b", ["line 2", "frame 48", "line 1"]),
        ("0s: a\n7s: b", ["line 2", "'7s'", "past the end", "96 pixel frames = 6.00 s"]),
        ("0s: a\n[3s-6.5s] b", ["line 2", "'6.5s'", "past the end"]),
        ("0: a\n101%: b", ["line 2", "'101%'", "past the end"]),
        ("0s: a\n6s: b", ["line 2", "starts at the end"]),
        ("0s: a\n" + "9" * 5000 + ": b", ["past the end"]),
        ("-1s: a", ["line 1", "before the video"]),
        ("[3-2s] a", ["line 1", "ends at frame 32", "frame 48"]),
        ("a\n3s: b", ["line 2", "before it has none"]),
        ("0s: a | 3s: b", ["'3s: b'", "behind a '|'"]),
        ("0s: a\n| 3s: b", ["'3s: b'", "behind a '|'"]),
        ("a | 3s: b", ["'3s: b'", "behind a '|'"]),
        ("[0-3s] a\n[3-6x] b", ["line 2", "cannot be read"]),
        ("[0-3x] a", ["line 1", "cannot be read"]),
        ("0s: a\n3m: b", ["line 2", "cannot be read"]),
        ('{"0": "a", "48": }', ["line 1, column 18", '"6s"']),
        ('\n{"0": "a",\n 48: "b"}', ["line 3, column 2"]),
        ("\n0s: a\n\n9s: b", ["line 4"]),
        ('{"0": "a",\n 48: "b"}', ["line 2, column 2", '"6s"']),
        ("{red|blue} car", ["line 1, column 2"]),
        ("{}", ["empty JSON object"]),
        ('["a", "b"]', ["JSON list"]),
        ('{"0": 3}', ["time '0'", "not a text"]),
        ('{"0": {"1": "a"}}', ["time '0'", "not a text"]),
        ('{"0": " "}', ["time '0'", "no prompt"]),
        ('{"soon": "a"}', ["time 'soon'", "cannot be read"]),
        ('{"0": "a", "0": "b"}', ["time '0'", "frame 0"]),
        ('{"0": "a", "200": "b"}', ["time '200'", "past the end"]),
        ('{"0-3s": "a", "32": "b"}', ["time '0-3s'", "time '32'", "overlap"]),
        ('{"0":' * 100_000, ["JSON"]),
        ('{"0": ' + "9" * 5000 + "}", ["JSON"]),
    ],
)
def test_errors_say_what_is_wrong(text, words):
    with pytest.raises(TimelineError) as e:
        parse_timeline(text, LENGTH, FPS)
    assert str(e.value).startswith("events")
    assert [word for word in words if word not in str(e.value)] == []
    assert len(str(e.value)) < 500


@pytest.mark.parametrize("length, fps, word", [(0, 16, "length"), (9, 0, "fps"), (9, float("nan"), "fps")])
def test_bad_length_and_fps(length, fps, word):
    with pytest.raises(TimelineError, match=f"^{word} "):
        parse_timeline("a", length, fps)


def test_equal_spans_cover_every_frame_once():
    for length in (1, 2, 7, 49, 293, 1001):
        for n in range(1, min(length, 60) + 1):
            events = parse_timeline("|".join("a" * n), length, FPS)
            frames = [f for e in events for f in range(e.start, e.end)]
            assert frames == list(range(length))
            sizes = {e.end - e.start for e in events}
            assert max(sizes) - min(sizes) <= 1


def test_dialects_round_trip():
    rng = random.Random(0)
    for _ in range(300):
        length, fps = rng.randint(1, 400), rng.choice([8.0, 16.0, 23.976, 30.0])
        starts = sorted({0, *rng.sample(range(length), min(length, rng.randint(1, 6)))})
        expected = [(f"p{i}: x", s, e) for i, (s, e) in enumerate(zip(starts, [*starts[1:], length], strict=True))]
        as_seconds = "\n".join(f"{s / fps:.4f}s: {t}" for t, s, _ in expected)
        as_ranges = "\n".join(f"[{s}-{e}] {t}" for t, s, e in expected)
        as_percent = json.dumps({f"{100 * s / length:.5f}%": t for t, s, _ in reversed(expected)})
        for text in (as_seconds, as_ranges, as_percent):
            assert brief(text, length, fps) == expected


def test_random_text_never_breaks_it():
    rng = random.Random(1)
    pieces = [*'abc 0123456789.:|-[]{}"\\%sf\n\r\t,()', "[0-3s] ", "\n3s: ", '{"0": "a"', '"48": ', "\u0663",
              "\u017f", "\u2013", "\U0001f534", "\u05d0", "nan", "1e9", "\u2028", "\x00", "9" * 30,
              "null", "\\ud800"]  # fmt: skip
    accepted = 0
    for _ in range(6000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 25)))
        try:
            events = parse_timeline(text, 48, 16.0)
        except TimelineError:
            continue
        accepted += 1
        assert events[0].start == 0 and events[-1].end == 48
        assert all(e.text.strip() and e.end > e.start for e in events)
        assert all(a.end == b.start for a, b in zip(events, events[1:], strict=False))
        for centre in (-1.0, 0.0, 13.3, 48.0):
            assert sum(w for _, w in span_weights(spans(events, 1), centre)) == pytest.approx(1)
    assert 1000 < accepted < 5900


def test_span_weights():
    events = parse_timeline("a | b | c", LENGTH, FPS)
    hard = spans(events)
    assert hard[1] == Span(index=1, start=32, end=64, blend=0, total=96)
    assert [span_weights(hard, c) for c in (-5, 0, 31.9, 32, 63.9, 64, 96, 200)] == [
        [(i, 1.0)] for i in (0, 0, 0, 1, 1, 2, 2, 2)
    ]
    soft = spans(events, 8)
    assert span_weights(soft, 28) == [(0, 1.0)]
    assert span_weights(soft, 30) == [(0, 0.75), (1, 0.25)]
    assert span_weights(soft, 32) == [(0, 0.5), (1, 0.5)]
    assert span_weights(soft, 36) == [(1, 1.0)]
    assert span_weights(soft, 62) == [(1, 0.75), (2, 0.25)]
    with pytest.raises(ValueError, match="spans"):
        span_weights([], 0)


def test_weights_sum_to_one_and_change_smoothly():
    for blend in (1, 5, 32):
        s = spans(parse_timeline("a | b | c", LENGTH, FPS), blend)
        rows = []
        for step in range(-8, 4 * LENGTH + 8):
            weights = dict(span_weights(s, step / 4))
            assert 1 <= len(weights) <= 2 and all(0 < w <= 1 for w in weights.values())
            assert sum(weights.values()) == pytest.approx(1)
            rows.append([weights.get(i, 0.0) for i in range(3)])
        jumps = (torch.tensor(rows).diff(dim=0)).abs().max().item()
        assert jumps == pytest.approx(0.25 / blend, abs=1e-6)


@pytest.mark.parametrize("blend", [-1, 33, float("nan")])
def test_blend_must_fit_the_shortest_event(blend):
    with pytest.raises(TimelineError, match="^blend .* 0 to 32"):
        spans(parse_timeline("a | b | c", LENGTH, FPS), blend)


@pytest.mark.parametrize(
    "global_prompt, ordinary, locals_",
    [
        ("a city. ", "a city. ", ["a city, day", "a city, night"]),
        ("", "day, night", ["day", "night"]),
        (" \n", "day, night", ["day", "night"]),
        ("...", "...", ["day", "night"]),
    ],
)
def test_join_prompts(global_prompt, ordinary, locals_):
    assert timeline.join_prompts(global_prompt, parse_timeline("day | night", LENGTH, FPS)) == (ordinary, locals_)


# The node, in real ComfyUI parts.


@pytest.fixture(scope="module")
def clip():
    """ComfyUI's own CLIP and tokenizer around a small random text model of width 32."""
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    clip = comfy.sd.CLIP(target, model_options={"clip_l_model_config": small, "dtype": torch.float32})
    randomise(clip.cond_stage_model)
    return clip


@pytest.fixture(scope="module")
def model():
    """ComfyUI's own Wan 2.1 model class, one random block of width 128, text width 32."""
    config = comfy.supported_models.WAN21_T2V(
        {"image_model": "wan2.1", "model_type": "t2v", "dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 1,
         "text_dim": 32, "in_dim": 16, "out_dim": 16}
    )  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    wan = config.get_model({}, "")
    randomise(wan)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(wan, load_device=device, offload_device=device)


def randomise(module):
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        p.requires_grad_(False).normal_(0, 0.1, generator=generator)


def run(clip, global_prompt="a city", events="day | night", length=LENGTH, fps=FPS, blend=0):
    return PromptTimeline.execute(clip, global_prompt, events, length, fps, blend).result


def test_conditioning(clip):
    conditioning, report = run(clip, blend=8)
    assert [c[1]["longtake_span"] for c in conditioning] == [None, Span(0, 0, 48, 8, 96), Span(1, 48, 96, 8, 96)]
    for (tensor, values), text in zip(conditioning, ["a city", "a city, day", "a city, night"], strict=True):
        plain = comfy_nodes.CLIPTextEncode().encode(clip, text)[0][0]
        assert torch.equal(tensor, plain[0])
        assert torch.equal(values["pooled_output"], plain[1]["pooled_output"])
    assert not set(NEVER) & set(conditioning[0][1])
    assert all(NEVER.items() <= c[1].items() for c in conditioning[1:])
    assert "cross-fade 8 frames" in report and "a city, night" in report


def test_conditioning_keeps_what_the_clip_schedules(clip):
    hooked = clip.clone()
    hooks = comfy.hooks.create_hook_lora(lora={}, strength_model=1.0, strength_clip=1.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.5, start_percent=0.5))
    hooks.set_keyframes_on_hooks(keyframes)
    hooked.patcher.forced_hooks = hooks
    hooked.use_clip_schedule = True
    hooked.apply_hooks_to_conds = hooks

    conditioning, _ = run(hooked)
    spans_seen = [c[1]["longtake_span"] and c[1]["longtake_span"].index for c in conditioning]
    seen = list(zip(spans_seen, [c[1]["clip_start_percent"] for c in conditioning], strict=True))
    assert seen == [(None, 0.0), (None, 0.5), (0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    assert all(c[1]["hooks"] is not None for c in conditioning)
    assert active(comfy.model_sampling.ModelSamplingDiscreteFlow, "simple", conditioning) == {None}


def active(kind, scheduler, conditioning):
    """The spans (None: the ordinary prompt) that core evaluates at any sigma of a schedule, its last 0 included."""
    parts = (kind, comfy.model_sampling.CONST if "Flow" in kind.__name__ else comfy.model_sampling.EPS)
    sampling = type("Sampling", parts, {})()
    owner = type("Model", (), {"model_sampling": sampling})()
    conds = comfy.sampler_helpers.convert_cond(conditioning)
    comfy.samplers.calculate_start_end_timesteps(owner, conds)
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, 8)
    sigmas = torch.cat([sigmas, torch.tensor([float(sampling.sigma_max) * 2, float(sampling.sigma_min) / 2, 1e-9])])
    x = torch.zeros(1, 16, 3, 4, 4)
    return {
        c["longtake_span"]
        for sigma in sigmas
        for c in conds
        if comfy.samplers.get_area_and_mult(c, x, sigma[None]) is not None
    }


@pytest.mark.parametrize("scheduler", ["simple", "normal", "beta", "karras", "sgm_uniform", "ddim_uniform"])
@pytest.mark.parametrize(
    "kind", ["ModelSamplingDiscrete", "ModelSamplingDiscreteFlow", "ModelSamplingFlux", "ModelSamplingContinuousEDM"]
)
def test_core_never_evaluates_the_local_prompts(clip, kind, scheduler):
    kind = getattr(comfy.model_sampling, kind)
    assert active(kind, scheduler, run(clip)[0]) == {None}


@pytest.mark.parametrize("sampler, scheduler", [("euler", "simple"), ("dpmpp_2m", "normal"), ("uni_pc", "beta")])
def test_without_windows_it_samples_as_the_global_prompt(clip, model, sampler, scheduler):
    def sample(positive):
        calls = []

        def count(apply_model, args):
            calls.append((tuple(args["input"].shape), list(args["cond_or_uncond"])))
            return apply_model(args["input"], args["timestep"], **args["c"])

        patched = model.clone()
        patched.set_model_unet_function_wrapper(count)
        latent = torch.zeros(1, 16, 5, 4, 4)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
        negative = comfy_nodes.CLIPTextEncode().encode(clip, "")[0]
        out = comfy.sample.sample(patched, noise, 4, 4.0, sampler, scheduler, positive, negative, latent, seed=3)
        return out, calls

    expected, expected_calls = sample(comfy_nodes.CLIPTextEncode().encode(clip, "a city")[0])
    got, calls = sample(run(clip)[0])
    assert (got - expected).abs().max() == 0.0
    assert calls == expected_calls and len(calls) > 0
    local = [[run(clip)[0][1][0], {}]]
    assert (sample(local)[0] - expected).abs().max() > 1e-4  # the prompts do differ for this model


def test_node_errors(clip):
    with pytest.raises(RuntimeError, match="Prompt Timeline: clip is None"):
        run(None)
    with pytest.raises(ValueError, match="Prompt Timeline: events is empty"):
        run(clip, events=" ")
    with pytest.raises(ValueError, match="Prompt Timeline: blend"):
        run(clip, blend=49)


def test_errors_show_before_the_run():
    validate = PromptTimeline.validate_inputs
    assert validate(events="a | b", length=96, fps=16.0, blend=0) is True
    assert validate(events=None, length=96, fps=16.0, blend=0) is True  # linked
    assert "blend (60" in validate(events="a | b", length=96, fps=16.0, blend=60)
    assert "past the end" in validate(events="0s: a\n7s: b", length=96, fps=16.0, blend=0)
    assert "fps (0.0)" in validate(events="a", length=96, fps=0.0, blend=0)


def test_schema_order_is_fixed():
    schema = PromptTimeline.GET_SCHEMA()
    assert schema.node_id == "LongTakePromptTimeline"
    assert [i.id for i in schema.inputs] == ["clip", "global_prompt", "events", "length", "fps", "blend"]
    assert all(i.tooltip for i in schema.inputs)
    assert PromptTimeline.INPUT_TYPES()["required"]["events"][1]["dynamicPrompts"] is False

"""Prompt Timeline, the node: the CONDITIONING in ComfyUI's own sampling, with ComfyUI's own CLIP and model classes."""

import re

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
from longtake.nodes.prompts import NEVER, LongTakeEventHooks, PromptTimeline
from longtake.samplers.prompts import timeline
from longtake.samplers.prompts.timeline import Span
from support.refusals import refusal

import nodes as comfy_nodes

LENGTH, FPS = 96, 16.0  # 6 seconds



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


CAT, DOG = "(a cat:1.3) runs", "a dog sleeps on a (red:0.7) (mat:1.25)"


@pytest.mark.parametrize(("events", "texts"), [
    (f"{CAT} | {DOG}", (CAT, DOG)), (f"0s: {CAT}\n3s: {DOG}", (CAT, DOG)), (f"[0-3s] {CAT}\n[3-6s] {DOG}", (CAT, DOG)),
    (f'{{"0": "{CAT}", "3s": "{DOG}"}}', (CAT, DOG)), (f"{CAT}\n{DOG}", (f"{CAT}\n{DOG}",)), ("(3:1.2) | (a cat:1.3)",
    ("(3:1.2)", "(a cat:1.3)")), ("0: (a cat:1.3), 48: (a dog:0.7)", ("(a cat:1.3)", "(a dog:0.7)")),
], ids=range(7))  # fmt: skip
def test_weights_in_an_event_are_no_times_and_reach_the_encoder(clip, events, texts):
    _, *conditioning = run(clip, events=events)[0]
    assert len(conditioning) == len(texts)
    for (tensor, _), text in zip(conditioning, texts, strict=True):
        plain, unweighted = (
            comfy_nodes.CLIPTextEncode().encode(clip, f"a city, {one}")[0][0][0]
            for one in (text, re.sub(r"\((.*?):[0-9.]+\)", r"\1", text)))
        assert torch.equal(tensor, plain) and not torch.equal(plain, unweighted)


def test_equal_texts_share_one_encoding_on_the_cpu(clip, monkeypatch):
    texts = []
    encode = clip.encode_from_tokens_scheduled
    monkeypatch.setattr(clip, "encode_from_tokens_scheduled", lambda tokens: texts.append(tokens) or encode(tokens))
    conditioning, _ = run(clip, events=" | ".join(["day", "night"] * (timeline.MOST_EVENTS // 2)), length=2000)
    assert len(conditioning) == timeline.MOST_EVENTS + 1 and len(texts) == 3
    assert len({c[0].data_ptr() for c in conditioning}) == 3
    assert len({c[1]["pooled_output"].data_ptr() for c in conditioning}) == 3
    assert {c[0].device.type for c in conditioning} == {"cpu"}


def test_a_limit_on_events_before_anything_is_encoded(clip):
    most = timeline.MOST_EVENTS
    text = " | ".join(str(i) for i in range(most + 1))
    said = refusal("LongTakePromptTimeline", events=text, length=2000)["details"]
    assert f"Prompt Timeline: events: {most + 1} events; a timeline holds at most {most}" in said
    with pytest.raises(ValueError, match=f"at most {most}"):
        run(clip, events=text, length=2000)
    tooltips = {i.id: i.tooltip for i in PromptTimeline.GET_SCHEMA().inputs}
    assert f"At most {most} events" in tooltips["events"]
    (event,) = (i for i in LongTakeEventHooks.GET_SCHEMA().inputs if i.id == "event")
    assert event.max == most


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
    def said(**inputs):
        return refusal("LongTakePromptTimeline", length=96, fps=16.0, **inputs)

    assert said(events="a | b", blend=48) is None
    assert said(events=["LONGTAKE_WINDOWS", 2], blend=60) is None  # its text is known at execution
    assert "blend (60" in said(events="a | b", blend=60)["details"]
    assert "past the end" in said(events="0s: a\n7s: b")["details"]


def test_schema_order_is_fixed():
    schema = PromptTimeline.GET_SCHEMA()
    assert schema.node_id == "LongTakePromptTimeline"
    names = ["clip", "global_prompt", "events", "length", "fps", "blend", "timing", "border"]
    assert [i.id for i in schema.inputs] == names
    assert all(i.tooltip for i in schema.inputs)
    assert PromptTimeline.INPUT_TYPES()["required"]["events"][1]["dynamicPrompts"] is False

"""What makes models smaller, faster or other than they were loaded, under windows: LoRA, hooks, offload, GGUF, fp8.
(torch.compile: test_compile.py; step caches: test_step_caches.py.)

Each is compared with the same windows over a plain model whose weights say the same.
"""

import re

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import pytest
import torch
from comfy_extras.nodes_hooks import CreateHookKeyframe, CreateHookLora, SetHookKeyframes
from longtake.nodes.prompts import LongTakeEventHooks, hook_event
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.windows import window_centre
from safetensors.torch import save_file
from support import tiny_wan, zoo
from support.compare import difference
from support.tiny_wan import run, timeline
from support.windows import LENGTH, coupled, windowed

import nodes as core_nodes

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE, CLEAR = 1e-4, 1e-2
PATCHED = ("blocks.0.self_attn.q", "blocks.1.cross_attn.v", "blocks.1.ffn.0")
LORA = {
    f"diffusion_model.{name}.lora_{side}.weight": zoo.randn(*shape, seed=40 + i) / 6
    for i, name in enumerate(PATCHED) for side, shape in (("A", (4, 256)), ("B", (256, 4)))
}  # fmt: skip


def weights():
    return {k: v.clone() for k, v in tiny_wan.patcher().model.diffusion_model.state_dict().items()}


def plus_lora(state):
    """The LoRA in the weights themselves."""
    state = dict(state)
    for name in PATCHED:
        a, b = (LORA[f"diffusion_model.{name}.lora_{side}.weight"] for side in "AB")
        state[name + ".weight"] = state[name + ".weight"] + b @ a
    return state


def load(state, **options):
    return comfy.sd.load_diffusion_model_state_dict(dict(state), model_options=options)


def with_lora(patcher):
    return comfy.sd.load_lora_for_models(patcher, None, LORA, 1.0, 0.0)[0]


@pytest.fixture(scope="module")
def model():
    return tiny_wan.patcher()


@pytest.fixture(scope="module")
def merged():
    return load(plus_lora(weights()))


@pytest.fixture(scope="module")
def lora_name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    save_file(LORA, folder / "test.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        kinds = folder_paths.folder_names_and_paths["loras"][1]
        patch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(folder)], kinds))
        yield "test.safetensors"


# ---- LoRA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows_first", [True, False])
@pytest.mark.parametrize("window_batch", [1, 3])
def test_a_loaded_lora_is_the_merged_model(model, merged, lora_name, windows_first, window_batch):
    loader = core_nodes.LoraLoaderModelOnly()
    if windows_first:
        (ours,) = loader.load_lora_model_only(windowed(model, window_batch=window_batch), lora_name, 1.0)
    else:
        ours = windowed(loader.load_lora_model_only(model, lora_name, 1.0)[0], window_batch=window_batch)
    expected = run(windowed(merged))
    assert difference(run(ours), expected) < CLOSE
    assert difference(run(windowed(model)), expected) > CLEAR


def hooked(conditioning, event, lora_name, until=None):
    """A timeline with the LoRA on one event, counted from 1; `until`: the fraction of the schedule at which it ends."""
    (hooks,) = CreateHookLora().create_hook(lora_name, 1.0, 0.0)
    if until is not None:
        (keyframes,) = CreateHookKeyframe().create_hook_keyframe(1.0, 0.0)
        (keyframes,) = CreateHookKeyframe().create_hook_keyframe(0.0, until, keyframes)
        (hooks,) = SetHookKeyframes().set_hook_keyframes(hooks, keyframes)
    return LongTakeEventHooks.execute(conditioning, hooks, event).result[0]


@pytest.mark.parametrize("window_batch", [1, 0, 2])
def test_a_lora_on_one_event_is_in_its_windows_only(model, merged, lora_name, window_batch):
    """Windows that do not overlap are clips of their own: the second event's is one of the merged model."""
    frames = 2 * LENGTH
    plain = timeline(4 * (frames - 1) + 1, [0, 20])
    text = hooked(plain, 2, lora_name)
    ours = run(windowed(model, overlap=0, window_batch=window_batch), frames, positive=text, negative=text)
    without, within = (run(windowed(m, overlap=0), frames, positive=plain, negative=plain) for m in (model, merged))
    assert difference(ours[:, :, :LENGTH], without[:, :, :LENGTH]) < CLOSE
    assert difference(ours[:, :, LENGTH:], within[:, :, LENGTH:]) < CLOSE
    assert all(difference(a, b) > CLEAR for a, b in zip(without.split(LENGTH, 2), within.split(LENGTH, 2), strict=True))


def watch(net, seen):
    """Note each call of `net`: (path, windows, whether the LoRA is in the weights just then, sigma)."""
    layer, plain = net.get_submodule(PATCHED[0]), weights()
    before, after = (state[PATCHED[0] + ".weight"] for state in (plain, plus_lora(plain)))

    def look(module, args, kwargs):
        on = not torch.equal(layer.weight, before)
        assert not on or difference(layer.weight, after) < 1e-5
        options = kwargs["transformer_options"]
        note = options["longtake"]
        seen.append((note["path"], note["windows"], on, float(options["sigmas"][0])))

    return net.register_forward_pre_hook(look, with_kwargs=True)


@pytest.mark.parametrize("sampler", ["euler", "heun", "syncos"])
@pytest.mark.parametrize("schedule", ["static", "random_shift"])
@pytest.mark.parametrize("until", [None, 0.5])
def test_a_lora_on_one_event_comes_and_goes_with_its_windows(model, lora_name, sampler, schedule, until):
    """Also in the coupled iterations of SynCoS; the global path has the global prompt, without the LoRA."""
    seen, net, before = [], model.model.diffusion_model, weights()
    ours = windowed(model, schedule=schedule, extra_path=GlobalPath(0.3) if sampler != "syncos" else None)
    text = hooked(timeline(tiny_wan.TOTAL, [0, 20]), 2, lora_name, until)
    sampler = coupled() if sampler == "syncos" else comfy.samplers.sampler_object(sampler)
    with watch(net, seen):
        assert run(ours, positive=text, sampler=sampler, cfg=1.0).isfinite().all()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    end = 0.0 if until is None else ours.get_model_object("model_sampling").percent_to_sigma(until)
    for path, windows, on, sigma in seen:
        assert [on] == [path == "local" and window_centre(window, 4) >= 20 and sigma > end for window in windows]
    assert {(path, on) for path, _, on, _ in seen} >= {("local", True), ("local", False)}


def test_hooks_on_an_event_leave_the_rest_as_it_is(lora_name):
    (hooks,) = CreateHookLora().create_hook(lora_name, 1.0, 0.0)
    plain = timeline(tiny_wan.TOTAL, [0, 20, 30])
    ours = hook_event(plain, hooks, 2)
    assert [entry[1].get("hooks") is not None for entry in ours] == [False, False, True, False]
    assert [entry is before for entry, before in zip(ours, plain, strict=True)] == [True, True, False, True]
    assert "hooks" not in plain[2][1]
    twice = hook_event(ours, CreateHookLora().create_hook(lora_name, 0.5, 0.0)[0], 2)
    assert len(twice[2][1]["hooks"].hooks) == 2
    assert hook_event(plain, None, 2)[2][1].get("hooks") is None


@pytest.mark.parametrize(("event", "words"), [(4, "event (4): the timeline has the events 1 to 3"), (0, "event (0)")])
def test_hooks_on_no_event_are_refused(event, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        hook_event(timeline(tiny_wan.TOTAL, [0, 20, 30]), None, event)
    with pytest.raises(ValueError, match="LongTakeEventHooks.*has no events; connect a Prompt Timeline"):
        hook_event(tiny_wan.prompt(1), None, event)


# ---- weights that are made whole as they are used ----------------------------------------------------------------


class PartlyLoaded(comfy.model_patcher.ModelPatcher):
    """As on a GPU without room: every layer is cast, and patched, as it is used."""

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        super().load(device_to, 64, force_patch_weights, False)


class OneByte(comfy.ops.manual_cast):
    """Linear layers of int8 rows that are dequantised, and patched, in forward: the way ComfyUI-GGUF works."""

    class Linear(comfy.ops.manual_cast.Linear):
        def _load_from_state_dict(self, state, prefix, *args, **kwargs):
            self.weight = torch.nn.Parameter(state[prefix + "weight"], requires_grad=False)
            self.bias = torch.nn.Parameter(state[prefix + "bias"], requires_grad=False)
            self.row_scale = state[prefix + "row_scale"]

        def whole(self):
            return self.weight.float() * self.row_scale

        def forward_comfy_cast_weights(self, x, *args, **kwargs):
            weight = self.whole()
            for patches, key in getattr(self.weight, "patches", []):
                weight = comfy.lora.calculate_weight(patches, weight, key)
            return torch.nn.functional.linear(x, weight, self.bias)


class OneBytePatcher(comfy.model_patcher.ModelPatcher):
    """Hangs patches on the weights instead of adding them."""

    def load(self, *args, force_patch_weights=False, **kwargs):
        super().load(*args, force_patch_weights=True, **kwargs)

    def patch_weight_to_device(self, key, *args, **kwargs):
        weight = comfy.utils.get_attr(self.model, key)
        if weight.dtype != torch.int8:
            return super().patch_weight_to_device(key, *args, **kwargs)
        weight.patches = [(self.patches[key], key)] if key in self.patches else []


def linear_layers(net):
    return {name: layer for name, layer in net.named_modules() if hasattr(layer, "in_features")}


def partly_loaded():
    made = load(weights())
    return PartlyLoaded(made.model, made.load_device, made.offload_device), weights()


def one_byte():
    state = weights()
    names = linear_layers(tiny_wan.patcher().model.diffusion_model)
    for weight, scale in ((f"{name}.weight", f"{name}.row_scale") for name in names):
        state[scale] = state[weight].abs().amax(1, keepdim=True) / 127
        state[weight] = (state[weight] / state[scale]).round().to(torch.int8)
    made = load(state, custom_operations=OneByte)
    layers = linear_layers(made.model.diffusion_model)
    assert len(layers) > 20 and all(layer.weight.dtype == torch.int8 for layer in layers.values())
    return (
        OneBytePatcher(made.model, made.load_device, made.offload_device),
        weights() | {name + ".weight": layer.whole() for name, layer in layers.items()},
    )


def fp8():
    """As weight_dtype of core's Load Diffusion Model."""
    made = load(weights(), dtype=torch.float8_e4m3fn)
    assert made.model.get_dtype() == torch.float8_e4m3fn
    return made, {k: v.float() for k, v in made.model.diffusion_model.state_dict().items()}


def scaled_fp8():
    """A file of fp8 weights with a scale to each layer."""
    state, full = weights(), {}
    for name in linear_layers(tiny_wan.patcher().model.diffusion_model):
        scale = state[name + ".weight"].abs().max() / 448
        state[name + ".weight"] = (state[name + ".weight"] / scale).to(torch.float8_e4m3fn)
        state[name + ".scale_weight"] = scale
        full[name + ".weight"] = state[name + ".weight"].float() * scale
    made = load(state | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)})
    layers = linear_layers(made.model.diffusion_model)
    kept = {getattr(layer.weight, "storage_dtype", layer.weight.dtype) for layer in layers.values()}
    assert len(layers) > 20 and kept == {torch.float8_e4m3fn}
    full |= {name + ".bias": layer.bias.float() for name, layer in layers.items()}  # 0.3.75 keeps these as fp8, too
    return made, weights() | full


@pytest.mark.parametrize("kind", [partly_loaded, one_byte, fp8, scaled_fp8])
def test_weights_in_another_form_are_the_weights(model, kind):
    ours, full = kind()
    expected, options = run(windowed(load(full))), {"window_batch": 3}
    assert difference(run(windowed(ours)), expected) < CLOSE
    assert difference(run(windowed(ours, **options)), expected) < CLOSE
    plain = difference(run(windowed(model)), expected)
    assert plain == 0 if kind is partly_loaded else plain > CLEAR


@pytest.mark.parametrize("kind", [partly_loaded, one_byte])
def test_a_lora_that_is_added_in_every_call(kind):
    ours, full = kind()
    result, expected = run(windowed(with_lora(ours), window_batch=3)), run(windowed(load(plus_lora(full))))
    assert difference(result, expected) < CLOSE
    assert difference(run(windowed(load(full))), expected) > CLEAR
    layer = ours.model.diffusion_model.get_submodule(PATCHED[0])
    assert layer.weight_function if kind is partly_loaded else layer.weight.patches  # nothing was added to the weights

"""Core's step caches with windows: LazyCache works on whole steps, what would mix windows up is refused."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustom
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings
from support import zoo

NAME, FRAMES, STEPS = "wan21_t2v", 9, 8


def run(model, sampler=None):
    text = zoo.zoo()[NAME]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    return SamplerCustom.execute(
        model, True, 5, 2.0, text.conditioning(1, FRAMES), text.conditioning(2, FRAMES),
        sampler or comfy.samplers.sampler_object("euler"), sigmas, {"samples": text.latent(FRAMES)},
    ).args[0]["samples"]  # fmt: skip


def cached(node, length=5, threshold=0.5):
    calls = []

    def wrapper(apply, args):
        calls.append(args["input"].shape[0])
        return apply(args["input"], args["timestep"], **args["c"])

    model = apply_windows(zoo.patcher(NAME), WindowSettings(length, 2 if length > 2 else 0, window_batch=1))
    (model,) = node.execute(model, threshold, 0.0, 1.0, False).args
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls


def test_lazycache_skips_whole_steps():
    model, calls = cached(LazyCacheNode)
    video = run(model)
    assert torch.isfinite(video).all()
    windows = 3
    assert 0 < sum(calls) < STEPS * windows * 2 and sum(calls) % (windows * 2) == 0


def test_easycache_is_refused_where_windows_are_used():
    with pytest.raises(ValueError, match="EasyCache keeps one result per prompt.*use LazyCache"):
        run(cached(EasyCacheNode)[0])
    assert torch.isfinite(run(cached(EasyCacheNode, length=FRAMES)[0])).all()  # one window: as without this pack


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_coupled_sampling_refuses_both(node):
    with pytest.raises(ValueError, match="EasyCache and LazyCache skip steps"):
        run(cached(node)[0], syncos_sampler(SynCoSSettings(t_min=0.0, iters=1)))


@pytest.mark.parametrize(
    "key,name",
    [
        ("rel_l1_thresh", "TeaCache"), ("enable_teacache", "TeaCache"), ("magcache_thresh", "MagCache"),
        ("magcache_K", "MagCache"),
    ],
)
@pytest.mark.parametrize("sampler", ["euler", "syncos"])
def test_other_packs_step_caches_are_refused_by_name(key, name, sampler):
    """By what they write into transformer_options."""
    model = apply_windows(zoo.patcher(NAME), WindowSettings(5, 2))
    model.model_options["transformer_options"][key] = 0.2
    sampler = syncos_sampler(SynCoSSettings(t_min=0.0, iters=1)) if sampler == "syncos" else None
    with pytest.raises(ValueError, match=f"LongTakeWindowScheduler.*{name} keeps one result per prompt.*LazyCache"):
        run(model, sampler)
    one = apply_windows(zoo.patcher(NAME), WindowSettings(FRAMES, 2))
    one.model_options["transformer_options"][key] = 0.2
    assert torch.isfinite(run(one)).all()  # one window: as without this pack

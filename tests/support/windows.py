"""Windows on any model: five latent frames that overlap by two, unless said otherwise."""

import comfy.context_windows as core
from longtake.samplers.adapters.attention import apply_anchor
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings

LENGTH, OVERLAP = 5, 2


def windowed(model, length=LENGTH, overlap=OVERLAP, **settings):
    """A clone that samples in windows; one per model call, unless `window_batch` says otherwise."""
    return apply_windows(model, WindowSettings(length, overlap, **{"window_batch": 1, **settings}))


def core_windowed(model, fuse="pyramid", length=LENGTH, overlap=OVERLAP, **options):
    """The same by core's own handler; newer ones have more options, and put an anchor before a window unless told."""
    model = model.clone()
    if NEW_CORE:
        options = {"causal_window_fix": False, **options}
    model.model_options["context_handler"] = core.IndexListContextHandler(
        core.get_matching_context_schedule("standard_static"), core.get_matching_fuse_method(fuse),
        context_length=length, context_overlap=overlap, dim=2, **options,
    )  # fmt: skip
    return model


def breaking(model, kind, call):
    """A clone whose attention fails at its call of this number with an exception of this kind."""
    calls = []

    def fail(func, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise kind("out of luck")
        return func(*args, **kwargs)

    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = fail
    return model


def anchored(model, a=0.3, first_layer=0, last_layer=-1, start=0.0, end=1.0, cache="gpu"):
    """A windowed model with anchor attention."""
    return apply_anchor(model, a, first_layer, last_layer, start, end, cache)


def coupled():
    """A SynCoS sampler of few evaluations: one coupled step, two iterations of two chunks."""
    return syncos_sampler(SynCoSSettings(t_min=0.0, max_coupled=1, iters=2, chunks=2, optimizer="sgd", lr=1))

"""A noise level for each frame of a model call, where core's sampling has one for all of them.

Some nets take a timestep per frame or token: core gives them one where a mask says that frames are given (timestep 0).
Here any level goes the same way. Core's model_sampling, which scales what goes into the net and makes x0 of what comes
out, knows one level per video of a batch: so frames are laid into the batch for it, and every parameterisation is
core's own.

Two wrappers in a call's own options: around the model, to make x0, and around the net, for its input and timesteps.
"""

import comfy.ldm.cosmos.predict2
import comfy.ldm.lightricks.model
import comfy.ldm.wan.model
import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP

from .call_options import uncompiled, wrapped

KEY = "longtake_frame_levels"


def _per_frame(net, timesteps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return timesteps.expand(len(x), -1)


def _per_token(net, timesteps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    frames = timesteps.view(1, 1, -1, 1, 1).expand(len(x), 1, -1, *x.shape[3:])
    return net.patchifier.patchify(frames)[0]


# Nets by their own class, whose forward passes are known: a derived one may read its timesteps in another way.
NETS = {
    comfy.ldm.wan.model.WanModel: _per_frame,
    comfy.ldm.lightricks.model.LTXVModel: _per_token,
    comfy.ldm.cosmos.predict2.MiniTrainDIT: _per_frame,
}
KNOWN = "Wan 2.1 and 2.2 text to video, LTX-Video and Cosmos Predict2"


def takes_levels(net) -> bool:
    return type(net) in NETS


def levelled(options: dict, sigma: torch.Tensor) -> dict:
    """transformer_options of a model call whose frames have these noise levels [F]."""
    return wrapped(options, WrappersMP.APPLY_MODEL, KEY, lambda *args, **kwargs: _apply(sigma, *args, **kwargs))


def by_frame(function, sigma: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    """function(sigma [N], *tensors [N, C, 1, H, W]) of model_sampling for tensors [B, C, F, H, W] with levels [F]."""
    batch, channels, frames, *sides = tensors[0].shape
    laid = [t.transpose(1, 2).reshape(batch * frames, channels, 1, *sides) for t in tensors]
    out = function(sigma.repeat(batch), *laid)
    return out.reshape(batch, frames, channels, *sides).transpose(1, 2)


def _apply(sigma, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    model = executor.class_obj
    net, sampling = uncompiled(model.diffusion_model), model.model_sampling
    call = {
        "x": by_frame(sampling.calculate_input, sigma, x),
        "t": NETS[type(net)](net, sampling.timestep(sigma).float(), x),
        "out": [],
    }
    options = wrapped({**(transformer_options or {}), KEY: call}, WrappersMP.DIFFUSION_MODEL, KEY, _forward)
    # Core's torch.compile does not look at the options: a net compiled without levels would be taken, but for KEY.
    executor(x, t, c_concat, c_crossattn, control, options, **kwargs, **{KEY: True})
    return by_frame(sampling.calculate_denoised, sigma, call["out"][0].float(), x)


def _forward(executor, x, t, *args, **kwargs):
    """No closure, and tensors alone from the call: torch.compile traces it once."""
    kwargs.pop(KEY, None)
    call = next(a[KEY] for a in (*args, *kwargs.values()) if isinstance(a, dict) and KEY in a)
    scaled = call["x"].to(x)
    x = torch.cat([scaled, x[:, scaled.shape[1] :]], 1)  # what a model concatenates comes after the latent
    out = executor(x, call["t"], *args, **kwargs)
    call["out"].append(out)
    return out

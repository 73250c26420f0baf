"""A copy of a VAE's net that remembers, between two pieces of a video, what its layers need of the frames before.

The twin shares every weight with the net and none of its own attributes: the layers that look back in time are taken as
subclasses that keep their last inputs, and those live and die with one run. Nothing is written to the net itself.
"""

import copy

import torch


def twin(module, kinds: dict[type, type]):
    """A copy of `module` and all below it, sharing the weights; layers of the types in `kinds` become those."""
    copied = copy.copy(module)
    below = {name: child and twin(child, kinds) for name, child in module._modules.items()}
    object.__setattr__(copied, "_modules", below)
    kind = kinds.get(type(module))
    if kind is not None:
        copied.__class__ = kind
    return copied


def moved(state, device):
    """`state` (tensors in lists, tuples and dicts) with its tensors on `device`."""
    if isinstance(state, torch.Tensor):
        return state.to(device)
    if isinstance(state, dict):
        for key, value in state.items():
            dict.__setitem__(state, key, moved(value, device))
        return state
    if isinstance(state, list | tuple):
        return type(state)(moved(value, device) for value in state)
    return state


def park(net, device):
    """Move what the layers of a twin remember to `device`."""
    for layer in net.modules():
        for name in ("past", "temporal_cache_state"):
            if name in layer.__dict__:
                layer.__dict__[name] = moved(layer.__dict__[name], device)


class Past:
    """A layer that keeps its last inputs; None before the first."""

    past = None

    def continued(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """x behind the `frames` before it; before the first piece its first frame stands for them."""
        past = x[:, :, :1].expand(-1, -1, frames, -1, -1) if self.past is None else self.past
        x = torch.cat([past, x], dim=2)
        self.past = x[:, :, x.shape[2] - frames :].clone()
        return x


# ---- Mochi ---------------------------------------------------------------------------------------------------------


def mochi():
    from comfy.ldm.genmo.vae import model as core

    class Conv(Past, core.PConv3d):
        def forward(self, x):
            if self.kernel_size[0] > 1:
                x = self.continued(x, self.kernel_size[0] - 1)
            return super(core.PConv3d, self).forward(x)

    class Space(core.DepthToSpaceTime):
        begun = False

        def forward(self, x):
            if not self.begun:
                self.begun = True
                return super().forward(x)
            # core cuts what only the first frame of a video lacks: give it a frame more, to cut from that
            return super().forward(torch.cat([x[:, :, :1], x], dim=2))[:, :, 1:]

    return {core.PConv3d: Conv, core.DepthToSpaceTime: Space}


# ---- Cosmos --------------------------------------------------------------------------------------------------------


def cosmos():
    import torch.nn.functional as F
    from comfy.ldm.cosmos import vae as top
    from comfy.ldm.cosmos.cosmos_tokenizer import layers3d as core
    from comfy.ldm.cosmos.cosmos_tokenizer.patching import UnPatcher3D
    from comfy.ldm.cosmos.cosmos_tokenizer.utils import batch2space, space2batch

    class Conv(Past, core.CausalConv3d):
        def _replication_pad(self, x):
            if self.time_pad > 0:
                x = self.continued(x, self.time_pad)
            return F.pad(x, (*self.spatial_pad, 0, 0), mode=self.pad_mode, value=0.0)

    class Up(core.CausalHybridUpsample3d):
        begun = False

        def forward(self, x):
            if self.temporal_up:
                x = x.repeat_interleave(2, dim=2)
                x = x if self.begun else x[:, :, 1:]
                self.begun = True
                x = self.conv1(x) + x
            if self.spatial_up:
                x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
                x = self.conv2(x) + x
            return self.conv3(x) if self.spatial_up or self.temporal_up else x

    class Attention(core.CausalTemporalAttnBlock):
        """Every frame sees all before it: their keys and values stay."""

        past = None

        def forward(self, x):
            h = self.norm(x)
            (q, batch, height), (k, _, _), (v, _, _) = (space2batch(f(h)) for f in (self.q, self.k, self.v))
            if self.past is not None:
                k, v = torch.cat([self.past[0], k], dim=2), torch.cat([self.past[1], v], dim=2)
            self.past = [k, v]
            scores = torch.einsum("bcq,bck->bqk", q, k) * int(q.shape[1]) ** -0.5
            seen = torch.ones_like(scores[0], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
            weights = F.softmax(scores.masked_fill(~seen, float("-inf")), dim=2)
            return x + self.proj_out(batch2space(torch.einsum("bqk,bck->bcq", weights, v), batch, height))

    class UnPatcher(UnPatcher3D):
        begun = False

        def _ihaar(self, x):
            for _ in self.range:
                x = self._idwt(x, "haar", rescale=True)
            x = x[:, :, 0 if self.begun else self.patch_size - 1 :]
            self.begun = True
            return x

    class Tokenizer(top.CausalContinuousVideoTokenizer):
        at = 0  # latent frames before: the statistics of a latent go by its place

        def decode(self, z):
            mean, std = (
                m.view(z.shape[1], -1).to(z)
                for m in (self.latent_mean, self.latent_std)
            )  # fmt: skip
            place = torch.arange(self.at, self.at + z.shape[2], device=z.device) % mean.shape[1]
            self.at += z.shape[2]
            mean, std = (m[:, place][None, :, :, None, None] for m in (mean, std))
            return self.decoder(self.post_quant_conv(z / self.sigma_data * std + mean))

    return {
        core.CausalConv3d: Conv, core.CausalHybridUpsample3d: Up, core.CausalTemporalAttnBlock: Attention,
        UnPatcher3D: UnPatcher, top.CausalContinuousVideoTokenizer: Tokenizer,
    }  # fmt: skip


# ---- LTX -----------------------------------------------------------------------------------------------------------


class Held(dict):
    """The state that core's LTX layers keep by thread, (cached frames, whether the video ends here, ...): `ends` says
    the latter, not core, which ends the video with every call."""

    ends = False

    def __setitem__(self, key, value):
        super().__setitem__(key, (value[0], value[1] and self.ends))


class Frames:
    """In place of core's buffer of the whole video: keeps what is copied into it."""

    def __init__(self):
        self.pieces = []

    def __getitem__(self, where):
        return self

    def copy_(self, piece):
        self.pieces.append(piece)


def ltx(net):
    """The twin of an LTX VAE whose layers keep their own state between calls, as in newer ComfyUI."""
    from comfy.ldm.lightricks.vae import causal_video_autoencoder as core

    class Decoder(core.Decoder):
        def forward(self, *args, **kwargs):
            return self.forward_orig(*args, **kwargs)  # core's forward drops the state when it returns

    class Encoder(core.Encoder):
        def forward(self, *args, **kwargs):
            return self._forward_chunk(*args, **kwargs)

    copied = twin(net, {core.Decoder: Decoder, core.Encoder: Encoder})
    for layer in copied.modules():
        if isinstance(layer, core.CausalConv3d):
            layer.temporal_cache_state = Held()
        elif hasattr(layer, "temporal_cache_state"):
            layer.temporal_cache_state = {}
    return copied


def end(net):
    """The next call of this LTX twin is the video's last."""
    for layer in net.modules():
        if isinstance(layer.__dict__.get("temporal_cache_state"), Held):
            layer.temporal_cache_state.ends = True

"""MUSIQ, the image quality transformer (Ke et al. 2021, arXiv 2108.05997): patches of a frame at three sizes.

Written from google-research/musiq. Where the version that VBench measures imaging quality with departs from it
(bicubic resizing, Bessel's correction in the kernels' deviations, the exact GELU) this does as that, and the names of
the weights are that version's, so that its files fit. Patches that only fill a batch up are never made: no patch of a
frame ever attends to one.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

PATCH = 32  # pixels of a patch's side
LONGER = (224, 384)  # pixels of the longer side; the frame's own size comes third
STEM = 64  # channels
HEAD = 64  # channels of an attention head
GROUPS = 32


def same(images: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """[..., H, W] with zeros around, as TensorFlow's SAME: ceil(H / stride) places, the odd zero at the end."""
    around = []
    for side in (images.shape[-1], images.shape[-2]):
        more = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        around += [more // 2, more - more // 2]
    return F.pad(images, around)


def places(grid: int, rows: int, columns: int) -> torch.Tensor:
    """[rows * columns]: the cell of a patch in a table of grid x grid positions (hash-based spatial embedding)."""
    down, along = (
        F.interpolate(torch.arange(grid).float()[None, None], count, mode="nearest")[0, 0] for count in (rows, columns)
    )
    return (down[:, None] * grid + along).flatten().long()


def patches(frames: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(patches [n, L, 3, PATCH, PATCH], their places [L] and sizes [L]) of frames [n, 3, H, W]."""
    height, width = frames.shape[-2:]
    found, at, scales = [], [], []
    for scale, longer in enumerate((*LONGER, None)):
        images = frames
        if longer is not None:
            ratio = longer / max(height, width)
            size = [max(1, round(side * ratio)) for side in (height, width)]
            images = F.interpolate(frames, size, mode="bicubic", align_corners=False)
        images = same(images, PATCH, PATCH)
        found.append(rearrange(images, "n c (y h) (x w) -> n (y x) c h w", h=PATCH, w=PATCH))
        at.append(places(grid, images.shape[-2] // PATCH, images.shape[-1] // PATCH))
        scales.append(torch.full_like(at[-1], scale))
    return torch.cat(found, 1), torch.cat(at).to(frames.device), torch.cat(scales).to(frames.device)


class StandardConv(nn.Conv2d):
    """A convolution whose kernels have mean 0 and deviation 1."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1):
        super().__init__(inside, outside, kernel, stride, bias=False)

    def forward(self, images):
        axes = (1, 2, 3)
        weight = self.weight - self.weight.mean(axes, keepdim=True)
        weight = weight / (weight.std(axes, keepdim=True) + 1e-5)
        return F.conv2d(same(images, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


class Residual(nn.Module):
    """ResNet's bottleneck, STEM to 4 STEM channels."""

    def __init__(self):
        super().__init__()
        self.conv1, self.gn1 = StandardConv(STEM, STEM, 1), nn.GroupNorm(GROUPS, STEM, 1e-4)
        self.conv2, self.gn2 = StandardConv(STEM, STEM, 3), nn.GroupNorm(GROUPS, STEM, 1e-4)
        self.conv3, self.gn3 = StandardConv(STEM, 4 * STEM, 1), nn.GroupNorm(GROUPS, 4 * STEM, 1e-4)
        self.conv_proj, self.gn_proj = StandardConv(STEM, 4 * STEM, 1), nn.GroupNorm(GROUPS, 4 * STEM, 1e-4)

    def forward(self, x):
        inner = F.relu(self.gn1(self.conv1(x)))
        inner = F.relu(self.gn2(self.conv2(inner)))
        return F.relu(self.gn3(self.conv3(inner)) + self.gn_proj(self.conv_proj(x)))


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        q, k, v = (rearrange(made(x), "n l (h c) -> n h l c", c=HEAD) for made in (self.query, self.key, self.value))
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "n h l c -> n l (h c)"))


class Block(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attention = Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, width: int, inner: int, layers: int, grid: int):
        super().__init__()
        self.posembed_input = nn.ParameterDict({"position_emb": torch.zeros(1, grid**2, width)})
        self.scaleembed_input = nn.ParameterDict({"scale_emb": torch.zeros(len(LONGER) + 1, width)})
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.transformer = nn.ModuleDict({f"encoderblock_{i}": Block(width, inner) for i in range(layers)})
        self.encoder_norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x, at, scales):
        x = x + self.posembed_input["position_emb"][0, at] + self.scaleembed_input["scale_emb"][scales]
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for block in self.transformer.values():
            x = block(x)
        return self.encoder_norm(x)


class Musiq(nn.Module):
    """width: of a token; inner: of its MLP; layers: of the transformer; grid: side of the table of positions. The
    paper's own: 384, 1152, 14, 10."""

    def __init__(self, width: int, inner: int, layers: int, grid: int):
        super().__init__()
        self.sizes = width, inner, layers, grid
        self.conv_root, self.gn_root = StandardConv(3, STEM, 7, 2), nn.GroupNorm(GROUPS, STEM, 1e-6)
        self.block1 = Residual()
        self.embedding = nn.Linear(4 * STEM * (PATCH // 4) ** 2, width)
        self.transformer_encoder = Encoder(width, inner, layers, grid)
        self.head = nn.Linear(width, 1)

    @classmethod
    def like(cls, weights: dict[str, torch.Tensor]) -> "Musiq":
        """The network that these weights are of, without them. Raises KeyError, ValueError where they are of none."""
        width = weights["embedding.weight"].shape[0]
        inner = weights["transformer_encoder.transformer.encoderblock_0.mlp.fc1.weight"].shape[0]
        layers = sum(name.endswith(".mlp.fc1.weight") for name in weights)
        grid = math.isqrt(weights["transformer_encoder.posembed_input.position_emb"].shape[1])
        if width % HEAD:
            raise ValueError(f"a width of {width} channels is no multiple of {HEAD}")
        return cls(width, inner, layers, grid)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Scores [n], by the data that it was trained on (SPAQ's 0..100), of frames [n, 3, H, W] in 0..1."""
        found, at, scales = patches(2 * frames - 1, self.sizes[-1])
        x = F.relu(self.gn_root(self.conv_root(found.flatten(0, 1))))
        x = self.block1(F.max_pool2d(same(x, 3, 2), 3, 2))
        x = self.embedding(rearrange(x, "(n l) c h w -> n l (h w c)", n=len(frames)))
        return self.head(self.transformer_encoder(x, at, scales)[:, 0])[:, 0]

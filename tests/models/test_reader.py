"""The analytic reader against ground truth: it must be right before it may judge anything."""

import math
import random

import pytest
import torch
from longtake.backbone.demo import reader, world

SCENES = 100

pytestmark = pytest.mark.usefixtures("one_thread")


def worse(video, generator):
    """Blurred (sigma 0.7 pixels) and noisy (0.02)."""
    kernel = torch.exp(-torch.arange(-3, 4).square() / (2 * 0.7**2))
    kernel /= kernel.sum()
    x = torch.nn.functional.pad(video.permute(0, 3, 1, 2), (3, 3, 3, 3), mode="replicate")
    x = torch.nn.functional.conv2d(x, (kernel[:, None] * kernel).expand(3, 1, 7, 7), groups=3).permute(0, 2, 3, 1)
    return (x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("spoilt, scenes, share", [(False, SCENES, 0.99), (True, SCENES // 4, 0.97)])
def test_right_on_ground_truth(spoilt, scenes, share):
    rng, generator = random.Random(4), torch.Generator().manual_seed(4)
    right = {name: [] for name in ("colour", "shape", "background", "motion")}
    frames = {name: [] for name in ("colour", "shape", "background", "mark", "one", "centre", "size", "angle")}
    for _ in range(scenes):
        scene, start = world.sample_scene(rng), rng.uniform(0, 100)
        video = world.render(scene, start=start)
        reading = reader.read(worse(video, generator) if spoilt else video)
        x, y, size, angle = world.pose(scene, start + torch.arange(len(video)))
        right["motion"].append(reader.motion(reading) == scene.motion)
        for name, names in (("colour", reader.COLOURS), ("shape", world.SHAPES), ("background", reader.BACKGROUNDS),
                            ("mark", world.MARKS)):
            truth = getattr(scene, name)
            frames[name].append(getattr(reading, f"{name}_index") == names.index(truth))
            if name in right:
                right[name].append(getattr(reading, name) == truth)
        turned = torch.remainder(reading.angle - angle + math.pi, 2 * math.pi) - math.pi
        frames["one"].append(reading.count == 1)
        frames["centre"].append(torch.hypot(reading.x - x, reading.y - y) < 1 / world.SIZE)
        frames["size"].append((reading.size / size - 1).abs() < 0.05)
        frames["angle"].append(turned.abs() < 0.15)
    shares = {f"{name} of clips": sum(v) / len(v) for name, v in right.items()}
    shares |= {f"{name} of frames": torch.cat(v).float().mean().item() for name, v in frames.items()}
    assert not {name: v for name, v in shares.items() if v < share}


def test_exact_shades_and_light():
    scene = world.sample_scene(random.Random(8), motion="still", shape="circle", background="gray")
    reading = reader.read(world.render(scene, 2))
    assert torch.allclose(reading.colour_rgb, torch.tensor(scene.colour_rgb), atol=0.01)
    middle = (1 - scene.light_strength / 2) * torch.tensor(scene.background_rgb)
    assert torch.allclose(reading.background_rgb, middle.expand(2, 3), atol=0.01)
    slope = -scene.light_strength * torch.tensor([math.cos(scene.light), math.sin(scene.light)])
    assert torch.allclose(reading.light, (slope / (1 - scene.light_strength / 2)).expand(2, 2), atol=0.02)


def test_two_subjects_and_none():
    rng = random.Random(6)
    for background in world.BACKGROUNDS:
        colour = "white" if background != "pink" else "blue"
        scene = world.sample_scene(rng, colour, "circle", "still", background)
        left, right = (world.render(world.change(scene, x=x, size=0.14), 3) for x in (0.25, 0.75))
        both = torch.cat((left[:, :, :32], right[:, :, 32:]), 2)
        assert reader.read(both).count.tolist() == [2, 2, 2]
        close = torch.cat((left[:, :, 4:28], right[:, :, 36:60]), 2)  # a gap of 6 pixels
        close = torch.nn.functional.pad(close.permute(0, 3, 1, 2), (8, 8, 0, 0), mode="replicate")
        assert reader.read(close.permute(0, 2, 3, 1)).count.tolist() == [2, 2, 2]
        reading = reader.read(torch.cat((right[:, :, :32], left[:, :, 32:]), 2))
        assert reading.count.tolist() == [0, 0, 0]
        assert (reading.colour, reading.shape, reading.background) == (None, None, background)
        assert reader.motion(reading) is None
        assert torch.isnan(reading.x).all()


def test_fading_backgrounds():
    """Half way from any background to the next the subject is where it was."""
    rng, names = random.Random(9), list(world.BACKGROUNDS)
    for before, after in zip(names, names[1:] + names[:1], strict=True):
        scene = world.sample_scene(rng, "yellow", "square", "circling", before)
        video = (world.render(scene, 4) + world.render(world.change(scene, background=after), 4)) / 2
        reading = reader.read(video)
        x, y, *_ = world.pose(scene, torch.arange(4))
        assert reading.count.tolist() == [1] * 4 and reading.shape == "square"
        assert torch.hypot(reading.x - x, reading.y - y).max() < 0.5 / world.SIZE


def test_motion_of_spans():
    rng = random.Random(7)
    wrong = []
    pairs = [(a, b) for a in world.MOTIONS for b in world.MOTIONS if a != b][::2]
    for before, after in pairs:
        scene = world.sample_scene(rng, motion=before)
        colour = next(c for c in world.COLOURS if c != scene.colour)
        later = world.change(scene, motion=after, colour=colour)
        reading = reader.read(torch.cat((world.render(scene, 40), world.render(later, 40, start=40))))
        for start, end, truth in ((0, 40, before), (40, 80, after), (8, 34, before), (48, 76, after)):
            found = reader.motion(reading, start, end)
            if found != truth:
                wrong.append((start, end, truth, found))
        assert (reading.colour_index == torch.tensor([reader.COLOURS.index(c) for c in (scene.colour, colour)])
                .repeat_interleave(40)).all()
    assert len(wrong) <= 0.01 * 4 * len(pairs), wrong


def test_noise_and_wrong_layouts():
    assert reader.read(torch.full((2, 64, 64, 3), 0.46)).count.tolist() == [0, 0]
    assert reader.read(torch.rand(2, 64, 64, 3)).fit.max() < 0.5  # noise is no subject that can be explained
    with pytest.raises(ValueError, match=r"square video \[T, H, W, 3\]"):
        reader.read(torch.zeros(2, 3, 64, 64))

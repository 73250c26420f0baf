"""Pictures of the benchmarks: a dot chart of the variants, metrics over cost, filmstrips of the videos (PIL alone)."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT, GRID = (255, 255, 255), (30, 30, 30), (110, 110, 110), (226, 226, 226)
COLOURS = {"reference": INK, "better": (0, 114, 178), "worse": (213, 94, 0), "noise": (140, 140, 140)}
PANEL, VALUES, GAP = 120, 62, 22  # widths: a panel's plot, its numbers, between panels
NAMES = 190  # width of a filmstrip's name
ROW, HEAD, TITLE, MARGIN = 24, 56, 46, 24  # heights; margin all round
PER_ROW = 6  # panels beside each other
FRAMES, ZOOM = 12, 1.5  # of a filmstrip
CURVE, CURVES = (420, 250), 3  # size of a cost panel's plot, panels beside each other
TICKS = (0.5, 0.6, 0.8, 1, 1.3, 1.6, 2, 2.6, 4, 6, 8, 12)  # costs that are marked


@dataclass(frozen=True)
class Dot:
    """A variant in one panel: value, its number as text, error (half a whisker, may be NaN), verdict of COLOURS."""

    value: float
    text: str
    error: float
    verdict: str


@dataclass(frozen=True)
class Panel:
    """A metric: two lines of heading, and a dot per variant."""

    heading: str
    hint: str
    dots: list[Dot]


@dataclass(frozen=True)
class Point:
    """A variant in a cost panel: cost in units of the reference's, and the dot; `joined` ones lie on the line."""

    label: str
    cost: float
    dot: Dot
    joined: bool


@dataclass(frozen=True)
class Curve:
    """A line through (x, y) with x from 1 down, and the value that chance gives."""

    points: list[tuple[float, float]]
    chance: float


def font(size: int):
    return ImageFont.load_default(size)


def chart(blocks: list[tuple[str, list[Panel]]], variants: list[str], legend: str, path: Path) -> None:
    """One block per video length: (title, panels). Each panel has its own scale, marked at the reference's value."""
    labels = 16 + math.ceil(max(font(14).getlength(name) for name in variants))
    panel_rows = sum(math.ceil(len(panels) / PER_ROW) for _, panels in blocks)
    width = 2 * MARGIN + labels + PER_ROW * (PANEL + VALUES + GAP) - GAP
    height = 2 * MARGIN + 30 + len(blocks) * TITLE + panel_rows * (HEAD + ROW * len(variants) + GAP)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    _legend(draw, legend)
    y = MARGIN + 30
    for title, panels in blocks:
        draw.text((MARGIN, y + 12), title, INK, font(20))
        y += TITLE
        for first in range(0, len(panels), PER_ROW):
            for i, name in enumerate(variants):
                draw.text((MARGIN, y + HEAD + ROW * i + ROW // 2), name, INK, font(14), anchor="lm")
            for k, panel in enumerate(panels[first : first + PER_ROW]):
                _panel(draw, panel, MARGIN + labels + k * (PANEL + VALUES + GAP), y)
            y += HEAD + ROW * len(variants) + GAP
    image.save(path)


def _legend(draw: ImageDraw.ImageDraw, legend: str) -> None:
    x = MARGIN
    for verdict, words in (("reference", "reference"), ("better", "better than it by more than 2 standard errors"),
                           ("worse", "worse"), ("noise", "within 2 standard errors")):  # fmt: skip
        draw.ellipse((x, MARGIN + 4, x + 9, MARGIN + 13), fill=COLOURS[verdict])
        draw.text((x + 15, MARGIN), words, INK, font(14))
        x += 15 + draw.textlength(words, font(14)) + 26
    draw.text((x, MARGIN), legend, SOFT, font(14))


def _panel(draw: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    draw.text((left, top + 8), panel.heading, INK, font(15))
    draw.text((left, top + 28), panel.hint, SOFT, font(13))
    bottom = top + HEAD + ROW * len(panel.dots)
    draw.rectangle((left, top + HEAD, left + PANEL, bottom), fill=(248, 248, 248))
    known = [d for d in panel.dots if not math.isnan(d.value)]
    ends = [d.value + sign * (0 if math.isnan(d.error) else d.error) for d in known for sign in (-1, 1)]
    low, high = (min(ends), max(ends)) if ends else (0, 1)
    room = (high - low) or abs(high) or 1

    def place(value: float) -> float:
        return left + PANEL * (0.06 + 0.88 * (value - low) / room)

    for dot in known:
        if dot.verdict == "reference":
            draw.line((place(dot.value), top + HEAD, place(dot.value), bottom), fill=(190, 190, 190), width=1)
    for i, dot in enumerate(panel.dots):
        y = top + HEAD + ROW * i + ROW // 2
        draw.line((left, y, left + PANEL, y), fill=GRID)
        colour = COLOURS[dot.verdict]
        draw.text((left + PANEL + VALUES, y), dot.text, colour, font(14), anchor="rm")
        if math.isnan(dot.value):
            continue
        if not math.isnan(dot.error):
            draw.line((place(dot.value - dot.error), y, place(dot.value + dot.error), y), fill=colour, width=2)
        x = place(dot.value)
        draw.ellipse((x - 4.5, y - 4.5, x + 4.5, y + 4.5), fill=colour)


def cost_chart(panels: list[tuple[str, str, list[Point]]], axis: str, legend: str, path: Path) -> None:
    """One panel per metric: (heading, hint, points), value over cost (logarithmic); `axis` says what the cost is."""
    width, height = CURVE[0] + 70, CURVE[1] + 110
    rows = math.ceil(len(panels) / CURVES)
    image = Image.new("RGB", (MARGIN + CURVES * width, 2 * MARGIN + 30 + rows * height), PAPER)
    draw = ImageDraw.Draw(image)
    _legend(draw, legend)
    for i, (heading, hint, points) in enumerate(panels):
        left, top = MARGIN + i % CURVES * width, 2 * MARGIN + 30 + i // CURVES * height
        _head(draw, heading, hint, left, top)
        _curve(draw, [p for p in points if not math.isnan(p.dot.value)], left, top + 30)
        draw.text((left + CURVE[0] / 2, top + CURVE[1] + 62), axis, SOFT, font(13), anchor="mm")
    image.save(path)


def _head(draw: ImageDraw.ImageDraw, heading: str, hint: str, left: int, top: int) -> None:
    draw.text((left, top), heading, INK, font(18))
    draw.text((left + 10 + draw.textlength(heading, font(18)), top + 4), hint, SOFT, font(13))


def _curve(draw: ImageDraw.ImageDraw, points: list[Point], left: int, top: int) -> None:
    draw.rectangle((left, top, left + CURVE[0], top + CURVE[1]), fill=(248, 248, 248))
    if not points:
        return
    costs = [math.log(p.cost) for p in points]
    ends = [p.dot.value + sign * (0 if math.isnan(p.dot.error) else p.dot.error) for p in points for sign in (-1, 1)]
    low, high, first, last = min(ends), max(ends), min(costs), max(*costs, min(costs) + 0.3)

    def place(cost: float, value: float) -> tuple[float, float]:
        x = (math.log(cost) - first) / ((last - first) or 1)
        y = (high - value) / ((high - low) or 1)
        return left + CURVE[0] * (0.04 + 0.6 * x), top + CURVE[1] * (0.08 + 0.84 * y)

    for tick in TICKS:
        if first - 0.01 <= math.log(tick) <= last + 0.01:
            x, _ = place(tick, low)
            draw.line((x, top, x, top + CURVE[1]), fill=GRID)
            draw.text((x, top + CURVE[1] + 10), f"{tick:g}", SOFT, font(12), anchor="mm")
    points = sorted(points, key=lambda p: p.cost)
    line = [place(p.cost, p.dot.value) for p in points if p.joined]
    if len(line) > 1:
        draw.line(line, fill=(190, 190, 190), width=2)
    dots = [place(p.cost, p.dot.value) for p in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    for p, (x, y) in zip(points, dots, strict=True):
        colour = COLOURS[p.dot.verdict]
        text = f"{p.label}  {p.dot.text}"
        wide = draw.textlength(text, font(12))
        for step in [0, *(sign * n for n in range(1, CURVE[1] // 4) for sign in (1, -1))]:  # the nearest free place
            at = min(max(y + 7 * step, top + 8), top + CURVE[1] - 8)
            box = (x + 9, at - 7, x + 9 + wide, at + 7)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                break
        taken.append(box)
        if abs(at - y) > 6:
            draw.line((x, y, x + 8, at), fill=(190, 190, 190))
        draw.rectangle(box, fill=(248, 248, 248))
        draw.text((x + 9, at), text, colour, font(12), anchor="lm")
    for p, (x, y) in zip(points, dots, strict=True):
        colour = COLOURS[p.dot.verdict]
        if not math.isnan(p.dot.error):
            ends = [place(p.cost, p.dot.value + sign * p.dot.error)[1] for sign in (1, -1)]
            draw.line([(x, end) for end in ends], fill=colour)
        draw.ellipse((x - 4.5, y - 4.5, x + 4.5, y + 4.5), fill=colour)


def curve_chart(panels: list[tuple[str, str, dict[str, Curve]]], axis: str, path: Path) -> None:
    """One panel per metric: (heading, unit, curves by label), from 0 up; chance is dashed in its curve's colour."""
    colours = (COLOURS["better"], COLOURS["worse"])
    width, height = CURVE[0] + 70, CURVE[1] + 110
    rows = math.ceil(len(panels) / CURVES)
    image = Image.new("RGB", (MARGIN + CURVES * width, 2 * MARGIN + 30 + rows * height), PAPER)
    draw = ImageDraw.Draw(image)
    x = MARGIN
    for label, colour in zip(panels[0][2], colours, strict=True):
        draw.line((x, MARGIN + 9, x + 24, MARGIN + 9), fill=colour, width=3)
        draw.text((x + 32, MARGIN), label, INK, font(14))
        x += 60 + draw.textlength(label, font(14))
    draw.text((x, MARGIN), f"dashed: another seed, what chance gives. Across: {axis}", SOFT, font(14))
    for i, (heading, unit, curves) in enumerate(panels):
        left, top = MARGIN + 40 + i % CURVES * width, 2 * MARGIN + 60 + i // CURVES * height
        _head(draw, heading, unit, left, top - 30)
        draw.rectangle((left, top, left + CURVE[0], top + CURVE[1]), fill=(248, 248, 248))
        most = max(max(c.chance, *(y for _, y in c.points)) for c in curves.values()) * 1.08 or 1
        last = min(x for c in curves.values() for x, _ in c.points)

        def place(x, y, left=left, top=top, most=most, last=last):
            return left + CURVE[0] * (0.03 + 0.94 * (1 - x) / (1 - last)), top + CURVE[1] * (1 - y / most)

        for tick in range(round(last * 10), 11):
            at, _ = place(tick / 10, 0)
            draw.line((at, top, at, top + CURVE[1]), fill=GRID)
            draw.text((at, top + CURVE[1] + 10), f"{tick / 10:g}", SOFT, font(12), anchor="mm")
        for part in (0, 0.5, 1):
            y = place(1, part * most / 1.08)[1]
            draw.text((left - 6, y), f"{part * most / 1.08:.3g}", SOFT, font(12), anchor="rm")
        for curve, colour in zip(curves.values(), colours, strict=True):
            y = place(1, curve.chance)[1]
            for dash in range(0, CURVE[0], 12):
                draw.line((left + dash, y, left + dash + 6, y), fill=colour)
            draw.line([place(*p) for p in curve.points], fill=colour, width=3)
            for p in curve.points:
                at, y = place(*p)
                draw.ellipse((at - 3.5, y - 3.5, at + 3.5, y + 3.5), fill=colour)
    image.save(path)


def film_frames(frames: int) -> list[int]:
    """The frames of a filmstrip: evenly spread, first and last included."""
    return [round(i * (frames - 1) / (FRAMES - 1)) for i in range(FRAMES)]


def strip(video: torch.Tensor) -> Image.Image:
    """Those frames of `video` [T, H, W, 3] in 0..1 in a row."""
    row = torch.cat(list(video[film_frames(len(video))]), 1)
    return Image.fromarray((row.clamp(0, 1) * 255).round().byte().numpy())


def film_sheet(title: str, frames: int, strips: dict[str, Image.Image]) -> Image.Image:
    """Strips under each other: their names on the left, the frame numbers on top."""
    first = next(iter(strips.values()))
    width, height = round(first.width * ZOOM), round(first.height * ZOOM)
    image = Image.new("RGB", (2 * MARGIN + NAMES + width, MARGIN + 56 + (height + 4) * len(strips)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 8), title, INK, font(18))
    for i, number in enumerate(film_frames(frames)):
        x = MARGIN + NAMES + (i + 0.5) * width / FRAMES
        draw.text((x, MARGIN + 40), str(number), SOFT, font(13), anchor="mm")
    for i, (name, picture) in enumerate(strips.items()):
        y = MARGIN + 52 + i * (height + 4)
        for k, line in enumerate(_wrapped(draw, name, NAMES - 12)):
            draw.text((MARGIN, y + 8 + 18 * k), line, INK, font(14))
        image.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (MARGIN + NAMES, y))
    return image


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels, broken after its commas and colons."""
    lines = [""]
    for part in text.replace(",", ",\n").replace(":", ":\n").split("\n"):
        if lines[-1] and draw.textlength(lines[-1] + part, font(14)) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return lines

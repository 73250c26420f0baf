"""Window scheduling: which windows of a long latent the model sees, and how their predictions are fused."""

from dataclasses import replace

from ..samplers.adapters.engine import LongTakeContextHandler, apply_windows
from ..samplers.adapters.latents import NODE, compression_of, frame_axis, video_frames
from ..samplers.adapters.window import window_weights
from ..samplers.chart import chart_data
from ..samplers.checks import number, option, shown
from ..samplers.cost import Cost, run_cost
from ..samplers.freelong import CUT, BandBlend, SpectralBlend
from ..samplers.glc.paths import PADDINGS, GlobalPath
from ..samplers.windows import (
    FIRST_LATENT,
    FUSE,
    LONGEST,
    RANDOM,
    SCHEDULES,
    WindowSettings,
    latent_length,
    latent_overlap,
    pixel_length,
)
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float
from .chart import draw_chart, draw_message

Windows = io.Custom("LONGTAKE_WINDOWS")
MIXES = ("weight", "frequencies", "least_squares", "bands")
REPORT_STEPS = 20
EXAMPLE_WINDOWS = 4  # length of the charted video, in windows, where no length is known


def windows_overlap(window_length: int, overlap: int, overlap_end: int = -1) -> None:
    """A window and its overlaps (overlap_end -1: the same) in pixel frames that go together. Raises ValueError."""
    number("window_length", window_length, 1, LONGEST, True)
    for name, value, low, example in (("overlap", overlap, 0, window_length // 2), ("overlap_end", overlap_end, -1, 0)):
        if not low <= value < window_length:
            raise ValueError(
                f"{name} ({value}) must be at least {low} and smaller than window_length ({window_length}) pixel "
                f"frames, e.g. {example}"
            )


def retained(retain: str) -> tuple[int, ...]:
    """The latent frames in a list such as "0" or "0, 1". Raises ValueError."""
    try:
        return tuple(int(part) for part in retain.split(",")) if retain.strip() else ()
    except ValueError:
        raise ValueError(
            f"retain ({shown(retain)}) must be latent frames as whole numbers with commas between them, e.g. 0 for the "
            f"start image, or nothing"
        ) from None


def varies(settings: WindowSettings, cost: Cost) -> bool:
    """Whether a run's cost depends on what only the sampler knows, its sigmas."""
    return settings.uneven or cost.extra > 0


def cost_headline(settings: WindowSettings, cost: Cost, run: str) -> str:
    """One line on a run: times plain windows, windows per step, and `run` as it stands."""
    about = "about " if varies(settings, cost) else ""
    extra = f" + {' + '.join(map(str, cost.looks.values()))} global" if cost.extra else ""
    return f"{about}{cost.evaluations / cost.plain:.2f}x plain windows: {cost.local} windows per step{extra}{run}"


def run_headline(settings: WindowSettings, cost: Cost, branches: int) -> str:
    with_cfg = " with CFG" if branches == 2 else ""
    return cost_headline(settings, cost, f", {cost.evaluations} window evaluations in {cost.steps} steps{with_cfg}")


def report(
    settings: WindowSettings, window_length: int, overlap: int, length: int, run: tuple[int, int] | None = None
) -> str:
    """What the settings mean in latent frames and, for a known length in pixel frames, what a run costs; a Markdown
    list. run: the sampler's steps and CFG branches, where known."""
    c = settings.compression
    lines = [
        f"window: {window_length} pixel frames = {settings.length} latent frames "
        f"({pixel_length(settings.length, c)} pixel frames)",
        f"overlap: {overlap} pixel frames, rounded to {settings.overlap} latent frames ({settings.overlap * c} pixel "
        f"frames); a window starts every {settings.stride} latent frames",
        f"1 latent frame = {c} pixel frames",
    ]
    if settings.retain:
        lines.append(f"every window keeps latent frames {', '.join(map(str, settings.retain))} of the conditioning")
    if length < 1:
        lines.append("cost: not known without the video's length; the log states it")
        return as_list(lines)
    frames = latent_length(length, c)
    if settings.whole(frames):
        lines.append("the video is not longer than the window: one window is used, the same as without this node")
    steps, branches = run or (REPORT_STEPS, 2)
    try:
        cost = run_cost(settings, frames, range(steps), branches)
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    said = run_headline(settings, cost, branches) if run else cost_headline(settings, cost, "; times 2 with CFG")
    lines.append(f"cost of {frames} latent frames: {said}")
    return as_list(lines)


def as_list(lines: list[str]) -> str:
    """Markdown, which ComfyUI's Preview as Text shows line by line, and readable as it is."""
    return "\n".join(f"- {line}" for line in lines)


def window_settings(
    window_length: int, overlap: int, compression: int, *, global_path: bool = False, gamma0: float = 0.005,
    beta: float = 5e-4, global_every: int = 1, global_until: float = 1.0, retain: str = "", overlap_end: int = -1,
    global_mix: str = MIXES[0], global_cut: float = CUT, dilation: int = 0, global_padding: str = PADDINGS[0],
    **widgets,
) -> WindowSettings:  # fmt: skip
    """The settings that the node's widgets (lengths in pixel frames) mean for a model. Raises ValueError, named."""
    try:
        windows_overlap(window_length, overlap, overlap_end)
        frames = latent_length(window_length, compression)
        end = None if overlap_end < 0 else latent_overlap(overlap_end, frames, compression)
        extra = None
        if global_path:
            pooled = option("global_mix", global_mix, MIXES) == "least_squares"
            extra = GlobalPath(gamma0, beta, global_every, global_until, dilation, global_padding, pooled)
        if extra is not None and global_mix in ("frequencies", "bands"):
            extra = replace(extra, gamma0=1.0, beta=0.0)
            extra = BandBlend(extra) if global_mix == "bands" else SpectralBlend(extra, global_cut)
        return WindowSettings(
            length=frames, overlap=latent_overlap(overlap, frames, compression), compression=compression,
            extra_path=extra, retain=retained(retain), overlap_end=end, **widgets,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error


def chart(settings: WindowSettings, length: int, steps: int = REPORT_STEPS, branches: int = 2, step: int = 0) -> dict:
    """chart.chart_data of a video of `length` pixel frames (0: an example), with what to say about it: title, notes.

    Raises ValueError, named, when that is too large to draw.
    """
    c = settings.compression
    frames = latent_length(length, c) if length > 0 else EXAMPLE_WINDOWS * settings.length

    def weigh(windows):
        handler = LongTakeContextHandler(settings.at(step / steps))
        return [window_weights(handler.settings, w, frames, handler) for w in windows]

    try:
        data = chart_data(settings, frames, steps=steps, branches=branches, step=step, weigh=weigh)
    except ValueError as error:
        raise ValueError(f"{NODE}: chart: {error}") from error
    cost = run_cost(settings, frames, range(steps), branches)
    title = run_headline(settings, cost, branches)
    notes = []
    if length < 1:
        notes.append(f"length is not known: drawn for {pixel_length(frames, c)} frames")
    elif settings.whole(frames):
        notes.append("not longer than the window: one window, as without this node")
    notes.append(f"{frames} latent frames of {c}, window {data['window']}, overlap {settings.overlap}")
    examples = settings.schedule in RANDOM and not settings.whole(frames)
    if examples:
        notes.append("shifts are examples")
    told = {"about": varies(settings, cost), "known": length > 0, "examples": examples}
    return {**data, "title": title, "notes": notes, "branches": branches, **told}


def chart_image(settings: WindowSettings, length: int):
    """The chart as an IMAGE; a video too large to draw gives a picture that says so."""
    try:
        data = chart(settings, length)
    except ValueError as error:
        return draw_message(str(error).split(": ", 2)[-1].split("; "))
    return draw_chart(data, data["title"], data["notes"])


class LongTakeWindowScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeWindowScheduler",
            display_name="Global/Local Window Scheduler",
            category="LongTake",
            **described(
                "Samples a video longer than the model was trained for as overlapping windows of one latent, "
                "optionally with GLC-Diffusion's global path. Works with any sampler that takes the model.",
                "long video", "longer video", "extend video", "sliding window", "context window", "loop",
                "Gen-L-Video", "GLC", "FreeLong", "FreeLong++", "seconds",
            ),
            inputs=[
                io.Model.Input("model", tooltip="A video model, e.g. Wan, LTX-Video or HunyuanVideo."),
                io.Int.Input(
                    "window_length", default=81, min=1, max=LONGEST,
                    tooltip="Pixel frames per window: the clip length the model was trained on (Wan 81, LTX 97, "
                    "HunyuanVideo 129, the demo model 49).",
                ),
                io.Int.Input(
                    "overlap", default=24, min=0, max=LONGEST,
                    tooltip="Pixel frames that neighbouring windows share: a third of a window with random_shift or "
                    "rolling, half with static, 0 with rolling_cut. More is smoother and slower. Must be smaller than "
                    "window_length.",
                ),
                Combo(
                    "schedule", options=list(SCHEDULES), default="random_shift",
                    tooltip="static: the same windows at every step. random_shift: all windows move by one random "
                    "offset per step, so seams never fall on the same frames. rolling: they move by even fractions, "
                    "so that seams of steps in a row lie far apart. random_shift_each: each window moves by an offset "
                    "of its own, up to a quarter of the overlap. rolling_cut: as rolling, but windows at the video's "
                    "ends are cut off, not moved inside: with overlap 0 every frame is computed once a step; not with "
                    "SynCoS or attention that windows share.",
                ),
                io.Int.Input(
                    "shift_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Seed of the random shifts' offsets; no effect with static, rolling and rolling_cut.",
                ),
                Combo(
                    "fuse", options=list(FUSE), default="pyramid",
                    tooltip="How overlapping windows are weighted: pyramid, triangular and sine favour a window's "
                    "middle, flat averages, overlap-linear cross-fades only where windows overlap.",
                ),
                io.Boolean.Input(
                    "global_path", default=False,
                    tooltip="GLC-Diffusion's global path: windows of every d-th frame over the whole video, mixed in "
                    "with weight gamma. Costs up to as much again as the local windows.",
                ),
                Float(
                    "gamma0", default=0.005, min=0.0, max=1.0, step=0.0001, round=False,
                    tooltip="Weight of the global path at the end of sampling; 0.001 to 0.05. gamma(t) = gamma0 * "
                    "exp(beta * t).",
                ),
                Float(
                    "beta", default=5e-4, min=-0.01, max=0.01, step=0.00001, round=False,
                    tooltip="Growth of gamma per training timestep t (0 clean to 1000 noise); 0 to 0.002. Positive: "
                    "more global at high noise.",
                ),
                io.Int.Input(
                    "global_every", default=1, min=1, max=1000,
                    tooltip="Run the global path at every k-th step of the whole noise schedule (1 = each). 2 to 4 "
                    "saves most of its cost.",
                ),
                Float(
                    "global_until", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Run the global path only in this first fraction of the noise schedule, where the noise is "
                    "highest; 1 = all of it, 0.3 to 0.6 saves cost.",
                ),
                Combo(
                    "first_latent", options=list(FIRST_LATENT), default="as_is",
                    tooltip="Causal video VAEs give a clip's first latent frame one pixel frame only. as_is: a "
                    "window's first frame takes that place. anchor: one earlier frame goes in front of each later "
                    "window and its result is dropped (windows cost one latent frame more).",
                ),
                io.Int.Input(
                    "window_batch", default=0, min=0, max=64,
                    tooltip="Windows per model call. 0: automatic, up to 4 of small windows (one of Wan at 480p fills "
                    "a GPU alone), the same for the whole run; 1: one by one; n: at most n. Affects speed and memory; "
                    "results agree to rounding.",
                ),
                io.Int.Input(
                    "length", default=0, min=0, max=1000000,
                    tooltip="Pixel frames of the video, only for the cost in the report. 0: those of the latent that "
                    "the sampler gets, where they are known.",
                ),
                io.String.Input(
                    "retain", default="", optional=True,
                    tooltip="Latent frames of the conditioning (start image, its mask, controls) that every window "
                    "shows in the same places, with commas between them. 0: each window begins with the start image; "
                    "-1: each ends with the end image. Empty: a start image belongs to the first window only. "
                    "cond_retain_index_list of ComfyUI's context windows.",
                ),
                io.Int.Input(
                    "overlap_end", default=-1, min=-1, max=LONGEST - 1, optional=True,
                    tooltip="Pixel frames that neighbouring windows share at the end of the noise schedule, to which "
                    "overlap changes evenly; 0 to a quarter of a window saves calls late. -1: overlap "
                    "throughout.",
                ),
                io.Boolean.Input(
                    "closed_loop", default=False, optional=True,
                    tooltip="Windows go around the end of the video, so that its end leads into its beginning. Decode "
                    "it as the help page says.",
                ),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="The latent that is sampled: report and chart take the video's length from it, and length "
                    "says nothing. Without it, the page finds that latent by itself.",
                ),
                Combo(
                    "global_mix", options=list(MIXES), default=MIXES[0], optional=True,
                    tooltip="How the global path is mixed in. weight: GLC-Diffusion, by gamma. frequencies: FreeLong, "
                    "its low frequencies with the local windows' high ones; gamma0 and beta have no effect. "
                    "least_squares: GLC's Eq. 8 itself, a frame that more windows see is more theirs. bands: "
                    "FreeLong++, a band of temporal frequencies from each of several distances; as frequencies, and "
                    "without global_cut.",
                ),
                Float(
                    "global_cut", default=CUT, min=0.0, max=1.0, step=0.01, optional=True,
                    tooltip="With frequencies: where low ends, as a fraction of the highest (Nyquist) one over time, "
                    "height and width; 0.1 to 0.4, paper 0.25. 0: local windows alone; 1: the global path alone.",
                ),
                io.Int.Input(
                    "dilation", default=0, min=0, max=LONGEST - 1, optional=True,
                    tooltip="Latent frames from one frame of a global window to its next. 0: ceil(video / window), "
                    "with which each frame is seen once. Smaller: several windows one after the other; larger: more "
                    "windows, with more padding. With bands: the longest distance.",
                ),
                Combo(
                    "global_padding", options=list(PADDINGS), default=PADDINGS[0], optional=True,
                    tooltip="What fills global windows that reach past the video, and is dropped again. end: the "
                    "video backwards. both_ends: half of it before the video. repeat: the last frame again.",
                ),
                Float(
                    "cfg_until", default=1.0, min=0.01, max=1.0, step=0.01, optional=True,
                    tooltip="Classifier-free guidance in this first fraction of the noise schedule only; after it the "
                    "positive prompt alone, at half the calls. 0.4 to 0.7 saves 30 to 15 %; 1: throughout.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                Windows.Output(display_name="windows"),
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="chart", tooltip="Windows and weights over frames and steps."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, overlap):
        return verdict(cls, NODE, windows_overlap, retained, overlap=overlap)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, model, window_length, overlap, schedule, shift_seed, fuse, global_path, gamma0, beta, global_every,
        global_until, first_latent, window_batch, length, retain="", overlap_end=-1, closed_loop=False,
        latent=None, global_mix=MIXES[0], global_cut=CUT, dilation=0, global_padding=PADDINGS[0], cfg_until=1.0,
    ) -> io.NodeOutput:  # fmt: skip
        c = compression_of(model)
        if latent is not None:
            length = pixel_length(video_frames(latent, frame_axis(model)), c)
        settings = window_settings(
            window_length, overlap, c, schedule=schedule, shift_seed=shift_seed, fuse=fuse, global_path=global_path,
            gamma0=gamma0, beta=beta, global_every=global_every, global_until=global_until, first_latent=first_latent,
            window_batch=window_batch, retain=retain, overlap_end=overlap_end, closed_loop=closed_loop,
            global_mix=global_mix, global_cut=global_cut, dilation=dilation, global_padding=global_padding,
            cfg_until=cfg_until,
        )  # fmt: skip
        return io.NodeOutput(
            apply_windows(model, settings),
            settings,
            report(settings, window_length, overlap, length),
            chart_image(settings, length),
            ui={"longtake_compression": [c]},  # the chart in the browser cannot know the model
        )


NODES = [LongTakeWindowScheduler]

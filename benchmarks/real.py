"""Real models in the demo model's place, for papers.py: CogVideoX-2B from diffusers' folder, Wan 2.1 from its files.

Videos are kept as files, as VBench reads them, and measured by the pack's own metrics: VBench's consistencies and
prompt fidelity with the encoders given, and always what needs none.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import InputImpl

from ..backbone.cogvideox import load as cogvideox
from ..backbone.cogvideox.files import IN_FOLDER
from ..nodes.metric_encoders import find
from ..samplers.adapters import aesthetic, decode_file, measure, metric_encoders, video_file
from ..samplers.adapters.decoding import Decoding
from ..samplers.adapters.side_by_side import Source
from ..samplers.metrics import summary
from ..samplers.prompts import timeline
from ..samplers.windows import latent_length
from .metrics.video import Metric
from .quality import SEED, Demo, Prompts

TEXTS = Path(__file__).with_name("prompts.json")
CRF = 12
END = 1 << 16  # bytes of a weight file's start and end that tell it from another
LONGER = 4  # scenarios: times a clip, as SynCoS's
METRICS = {
    "subject_consistency": Metric("subject", 1), "background_consistency": Metric("background", 1),
    "motion_smoothness": Metric("motion", 1), "temporal_flicker": Metric("flicker", 1),
    "moving": Metric("dynamic", 0), "scenes": Metric("scenes", -1, 1), "aesthetic_quality": Metric("aesthetic", 1),
    "imaging_quality": Metric("imaging", 1),
    "prompt_global": Metric("global", 1, 1, 3), "prompt_local": Metric("local", 1, 1, 3),
    "prompt_accuracy": Metric("local accuracy", 1, decimals=1),
    "seam_warp": Metric("seams", -1, 1), "colour_drift": Metric("colour drift", -1, 1, 3),
    "sharpness_ratio": Metric("sharpness last / first", 0, 1),
    "dynamic_degree": Metric("motion's length", 0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """A scenario of several events, as scenarios.Scenario; frames: pixel frames asked for."""

    prompt: str
    events: tuple[str, ...]
    frames: int
    fps: float
    changes: str = "both"

    @property
    def local_prompts(self) -> list[str]:
        return list(self.events)

    @property
    def title(self) -> str:
        return f"{self.prompt}: {' | '.join(self.events)}"

    def timeline(self, frames: int) -> list[timeline.Event]:
        return timeline.parse_timeline(" | ".join(self.events), frames, self.fps)


@dataclass(frozen=True)
class Film:
    """A video in a file; len: its frames."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count


def options(parser) -> None:
    parser.add_argument("--model", help="a real model in ComfyUI's model folders: CogVideoX's diffusers folder, or Wan "
                        "2.1's file in diffusion_models")  # fmt: skip
    parser.add_argument("--vae", help="file in models/vae; default: CogVideoX's own")
    parser.add_argument("--text-encoder", help="file in models/text_encoders; default: CogVideoX's own")
    parser.add_argument("--encoders", nargs="+", default=[], metavar="FOLDER", help="in models/metrics: DINO ViT-B/16 "
                        "and CLIP ViT-B/32 for VBench's consistencies and prompt fidelity")  # fmt: skip
    parser.add_argument("--texts", type=Path, default=TEXTS, help="JSON: prompts, scenarios (prompt, events)")
    parser.add_argument("--clip-frames", type=int, help="pixel frames of a clip; default 49 (CogVideoX), 81 (Wan)")
    parser.add_argument("--size", type=int, nargs=2, help="width and height; default 720 480, Wan 832 480")
    parser.add_argument("--fps", type=float, help="default 8, Wan 16")


def texts_of(path: Path) -> tuple[list[str], list[tuple[str, tuple[str, ...]]]]:
    """(prompts, (prompt, events) of the scenarios). Raises SystemExit."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        prompts = [str(text) for text in found["prompts"]]
        stories = [(str(one["prompt"]), tuple(map(str, one["events"]))) for one in found["scenarios"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        form = '{"prompts": ["..."], "scenarios": [{"prompt": "...", "events": ["...", "..."]}]}'
        raise SystemExit(f"--texts {path}: {type(error).__name__}: {error}; it must be {form}") from error
    if any("|" in event for _, events in stories for event in events):
        raise SystemExit(f"--texts {path}: an event has a bar (|) in it, which parts events")
    return prompts, stories


class Texts(Prompts):
    """The first prompts of a file, and their seeds."""

    def __init__(self, path: Path, count: int):
        self.specs = texts_of(path)[0][:count]
        self.seeds = [SEED + i for i in range(len(self.specs))]


def digest(paths: list[Path]) -> str:
    """Of weight files, by their ends."""
    found = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            size = path.stat().st_size
            found.update(f"{path.name} {size}".encode() + file.read(END))
            file.seek(max(0, size - END))
            found.update(file.read())
    return found.hexdigest()[:12]


class Real(Demo):
    """A real model, and videos sampled from it into files."""

    metrics, event_metrics = METRICS, METRICS

    def __init__(self, args):
        comfy.utils.PROGRESS_BAR_ENABLED = True
        self.args = args
        wan = args.model in folder_paths.get_filename_list("diffusion_models") and bool(args.vae and args.text_encoder)
        self.clip_frames = args.clip_frames or (81 if wan else 49)
        self.width, self.height = args.size or ((832, 480) if wan else (720, 480))
        self.fps = args.fps or (16.0 if wan else 8.0)
        if wan:
            import nodes  # ComfyUI's

            self.model, = nodes.UNETLoader().load_unet(args.model, "default")
            self.clip, = nodes.CLIPLoader().load_clip(args.text_encoder, "wan")
            self.vae, = nodes.VAELoader().load_vae(args.vae)
            files = [folder_paths.get_full_path_or_raise("diffusion_models", args.model)]
        else:
            given = (args.vae or IN_FOLDER, args.text_encoder or IN_FOLDER)
            self.model, self.clip, self.vae = cogvideox.load(args.model, *given, "default")
            folders = [Path(base) / args.model for base in folder_paths.get_folder_paths("diffusers")]
            files = [path for folder in folders for path in folder.rglob("*.safetensors")]
        self.hash = digest(list(map(Path, files)))
        self.encoders = [metric_encoders.from_folder(find(name)) for name in args.encoders]
        self.folder = args.out / "papers_videos"
        self.folder.mkdir(parents=True, exist_ok=True)

    def prompt(self, spec: str) -> str:
        return spec

    def stories(self) -> list[Story]:
        frames = LONGER * self.clip_frames
        return [Story(*one, frames, self.fps) for one in texts_of(self.args.texts)[1]]

    def warm_up(self, spec: str) -> None:
        """A clip is too dear for it, and no seconds are shown."""

    def row(self, video: Film) -> dict:
        return {"file": video.path.name, "frames": len(video)}

    def latent(self, count: int, frames: int) -> torch.Tensor:
        channels = self.model.get_model_object("latent_format").latent_channels
        return torch.zeros(count, channels, latent_length(frames, 4), self.height // 8, self.width // 8)

    def decode(self, samples: torch.Tensor) -> list[Film]:
        return [self._film(one) for one in samples.split(1)]

    def _film(self, latent: torch.Tensor) -> Film:
        decoding, kind = Decoding(self.vae, latent), video_file.FORMATS["mp4 (h264)"]
        mark = decode_file.digest(decoding, (), None)
        path = self.folder / f"{mark}.mp4"
        decode_file.decode(
            "papers", decoding, decode_file.Target(self.folder, "video", mark, kind), lambda: path, self.fps, CRF, None,
            {}, lambda done: None)  # fmt: skip
        return Film(path, decoding.count)

    def measure(self, video: Film, spec: str, boundaries: list[int]) -> dict[str, float]:
        return self._measured(video, spec, "", boundaries)

    def measure_events(self, video: Film, scenario: Story, boundaries: list[int]) -> dict[str, float]:
        return self._measured(video, scenario.prompt, " | ".join(scenario.events), boundaries)

    def _source(self, video: Film) -> Source:
        return Source(video.path.name, InputImpl.VideoFromFile(str(video.path)), self.fps)

    def _measured(self, video: Film, prompt: str, events: str, boundaries: list[int]) -> dict[str, float]:
        found = []
        for encoder in self.encoders or [None]:
            source = self._source(video)
            try:
                one = measure.measured(source, None, encoder)
            finally:
                source.close()
            found += [] if found else summary.results(one.series, boundaries, one.backend)
            if encoder is not None:
                found += summary.feature_results(one.features, boundaries, encoder.name, encoder.exact)
                found += aesthetic.results(encoder, one.features) + one.imaging
            if getattr(encoder, "clip", False):  # has texts
                asked = measure.Prompts.of(prompt, events, len(video), self.fps, encoder)
                found += summary.prompt_results(one.features, asked.whole, asked.texts, asked.own, encoder.name)
        values = {result.metric: result.value for result in found}
        return {name: values.get(name, math.nan) for name in METRICS}

"""The tables of both papers: their rows as variants of quality.py and events.py, and the papers' own numbers.

GLC-Diffusion (arXiv 2501.05484): Tables 1 to 6, CogVideoX, 200 prompts of VBench. SynCoS (arXiv 2503.08605): Tables 1
to 3 and 5, 48 scenarios; its sweeps of stride, learning rate, iterations and t_min have figures or ranges, no numbers.
Data alone.
"""

from dataclasses import dataclass, field

GLC = ("subject", "background", "motion", "flicker", "imaging")
SYNCOS = ("subject", "background", "motion", "dynamic", "scenes", "aesthetic", "imaging", "global", "local")
SHORT = ("subject", "background", "aesthetic", "prompt")
VIDEOS, SCENARIOS = "videos", "scenarios"


@dataclass(frozen=True)
class PaperTable:
    """One table at one length. rows: what the paper calls a row, and the variant that it is here; reference: the row
    that the others are compared with; clips: the video's length (None: each scenario's); paper: its numbers by row, in
    the order of `columns`."""

    title: str
    kind: str
    rows: dict[str, str]
    reference: str
    clips: int | None = None
    columns: tuple[str, ...] = ()
    paper: dict[str, tuple[float, ...]] = field(default_factory=dict)
    note: str = ""


GLC_ROWS = {
    "Direct": "direct", "FreeLong": "freelong", "FreeLong++": "freelong_bands", "GenL": "genl",
    "FreeNoise": "freenoise", "GLC": "ours",
}  # fmt: skip
NEWER = "the paper has no row of FreeLong++, which is newer"
OURS = {"GLC": (95.78, 96.92, 98.42, 96.92, 69.86)}


def sweep(key: str, values: dict[str, tuple[float, ...]], own: str) -> tuple[dict, dict]:
    """(rows, paper) of a setting's values; own: the paper's choice."""
    rows = {f"{key} {value}": f"ours:{key}={value}" for value in values}
    return rows | {f"{key} {own}": "ours"}, {f"{key} {v}": n for v, n in values.items()} | {f"{key} {own}": OURS["GLC"]}


def _swept(number: int, what: str, key: str, own: str, values: dict[str, tuple[float, ...]]) -> PaperTable:
    rows, paper = sweep(key, values, own)
    return PaperTable(f"GLC Table {number}: {what}, x3", VIDEOS, rows, f"{key} {own}", 3, GLC, paper)


TABLES = [
    PaperTable(
        "GLC Table 1: methods, x3", VIDEOS, GLC_ROWS, "GenL", 3, GLC,
        {"Direct": (92.16, 96.30, 98.19, 96.32, 57.11), "FreeLong": (92.72, 96.72, 98.10, 96.60, 62.73),
         "GenL": (91.16, 94.35, 98.36, 96.81, 66.94), "FreeNoise": (95.28, 96.26, 98.30, 96.69, 68.64), **OURS},
        NEWER,
    ),
    PaperTable(
        "GLC Table 1: methods, x6", VIDEOS, GLC_ROWS, "GenL", 6, GLC,
        {"Direct": (91.12, 95.49, 97.71, 94.15, 53.12), "FreeLong": (91.96, 95.58, 97.75, 94.19, 58.90),
         "GenL": (89.66, 93.65, 98.35, 96.84, 66.62), "FreeNoise": (93.83, 95.57, 98.09, 96.40, 67.13),
         "GLC": (94.17, 95.85, 98.35, 96.86, 68.25)},
        NEWER,
    ),
    PaperTable(
        "GLC Table 2: its parts, x3", VIDEOS,
        {"w/o GLCD": "wo_glcd", "w/o global": "wo_global", "w/o local": "wo_local", "w/o noise reinit": "wo_noise",
         "w/o ABAM": "wo_abam", "w/o VMCR": "wo_vmcr", "GLC": "ours"},
        "GLC", 3, GLC,
        {"w/o GLCD": (94.53, 95.78, 95.06, 96.22, 55.30), "w/o global": (94.04, 95.80, 98.40, 96.77, 67.85),
         "w/o local": (87.35, 92.38, 94.92, 93.03, 66.94), "w/o noise reinit": (95.34, 96.29, 97.63, 95.51, 69.71),
         "w/o VMCR": (94.41, 96.06, 97.78, 95.72, 67.83), **OURS},
        "the paper has no row without ABAM",
    ),
    _swept(3, "gamma0", "gamma0", "0.005",
           {"0.5": (95.52, 96.03, 98.08, 97.04, 59.06), "0.05": (94.97, 96.18, 98.37, 96.90, 67.07),
            "0.0005": (94.83, 96.07, 98.37, 96.77, 67.48)}),
    _swept(4, "lambda of ABAM", "anchor", "0.1",
           {"1": (94.50, 96.08, 98.32, 96.77, 67.85), "0.01": (93.99, 95.72, 98.30, 96.69, 68.00)}),
    _swept(5, "lambda_f of VMCR", "lambda_f", "0.2",
           {"2": (94.69, 95.97, 98.34, 96.72, 68.15), "0.02": (94.48, 95.97, 98.31, 96.75, 67.67)}),
    _swept(6, "omega of VMCR", "omega", "2e-5",
           {"2e-3": (94.73, 95.96, 98.34, 96.73, 67.52), "2e-4": (94.62, 96.00, 98.38, 96.79, 68.00),
            "2e-6": (94.54, 96.05, 98.39, 96.85, 67.71)}),
    PaperTable(
        "SynCoS Table 1: methods", SCENARIOS,
        {"Gen-L-Video": "genl", "FIFO-Diffusion": "fifo", "SynCoS": "syncos_paper"}, "Gen-L-Video", None, SYNCOS,
        {"Gen-L-Video": (81.34, 89.46, 98.32, 50.00, 2.292, 60.09, 58.52, 0.324, 0.351),
         "FIFO-Diffusion": (83.54, 90.72, 98.04, 70.83, 1.938, 59.59, 63.18, 0.323, 0.327),
         "SynCoS": (88.92, 94.57, 98.21, 85.42, 1.208, 63.37, 67.43, 0.341, 0.354)},
        "the paper's numbers are CogVideoX-2B's",
    ),
    PaperTable(
        "SynCoS Table 2: what couples", SCENARIOS,
        {"SynCoS": "syncos_paper", "w/o t_min": "wo_tmin", "w/o grounded timestep": "wo_grounded",
         "w/o fixed baseline noise": "wo_baseline", "w/o structured prompt": "wo_structured"},
        "SynCoS", None, SHORT,
        {"SynCoS": (0.864, 0.927, 0.643, 0.381), "w/o t_min": (0.724, 0.854, 0.632, 0.373),
         "w/o grounded timestep": (0.803, 0.899, 0.638, 0.364),
         "w/o fixed baseline noise": (0.817, 0.904, 0.643, 0.382),
         "w/o structured prompt": (0.837, 0.903, 0.663, 0.362)},
    ),
    PaperTable(
        "SynCoS Table 3: its stages", SCENARIOS,
        {"first stage": "stage1", "second stage (CSD)": "csd", "all three": "syncos_paper"}, "all three", None, SYNCOS,
        {"first stage": (80.46, 91.14, 98.55, 97.92, 1.229, 53.36, 58.42, 0.318, 0.348),
         "second stage (CSD)": (78.88, 91.63, 97.70, 14.58, 21.33, 45.56, 42.27, 0.305, 0.300),
         "all three": (82.70, 91.85, 98.24, 100.00, 1.042, 54.56, 65.53, 0.325, 0.348)},
        "the paper's numbers are a changed Open-Sora Plan 1.2's",
    ),
    PaperTable(
        "SynCoS Table 5: methods of one architecture", SCENARIOS,
        {"Video-Infinity": "infinity", "DiTCtrl": "ditctrl", "SynCoS": "syncos_paper"}, "SynCoS", None, SHORT,
        {"Video-Infinity": (0.879, 0.943, 0.645, 0.365), "DiTCtrl": (0.821, 0.916, 0.635, 0.394),
         "SynCoS": (0.864, 0.927, 0.643, 0.381)},
        "the paper's numbers are CogVideoX-2B's, Video-Infinity's VideoCrafter2's, where SynCoS has 0.911, 0.947, "
        "0.648, 0.365",
    ),
    PaperTable(
        "SynCoS: stride, learning rate, iterations, t_min", SCENARIOS,
        {"the paper's (overlap 28, lr 0.5, iters 20, t_min 0.8)": "syncos_paper",
         **{f"overlap {n}": f"syncos_paper:overlap={n}" for n in (36, 16)},
         **{f"lr {n}": f"syncos_paper:lr={n}" for n in (0.1, 1.0)},
         **{f"iters {n}": f"syncos_paper:iters={n}" for n in (5, 50)},
         **{f"t_min {n}": f"syncos_paper:t_min={n}" for n in (0.7, 0.9)}},
        "the paper's (overlap 28, lr 0.5, iters 20, t_min 0.8)",
    ),
    PaperTable(
        "As a user sets windows, x3", VIDEOS,
        {"half overlap": "genl", "moving": "genl:schedule=random_shift", "rolling, no overlap":
         "genl:schedule=rolling,overlap=0", "rolling, no overlap, FreeNoise": "freenoise:schedule=rolling,overlap=0"},
        "half overlap", 3,
    ),
]  # fmt: skip
RIVALS = {  # of the last table, with --rivals: the newer core's windows, KJNodes' where KJNODES_PATH names them
    "core, static": "core", "core, static, FreeNoise": "core:freenoise=true",
    "core, uniform, FreeNoise": "core:schedule=standard_uniform,freenoise=true",
    "core, uniform, stride 2, FreeNoise": "core:schedule=standard_uniform,freenoise=true,stride=2",
}  # fmt: skip
KJNODES = {"KJNodes, batched_shifted, FreeNoise": "kj"}

"""Model evaluations that a run takes against those that its cost line promises, for every method and batch limit.

    COMFYUI_PATH=... python -m benchmarks evaluations [--methods ...] [--batches 1 2 4]

An evaluation is one window for one CFG branch; counted where core calls the model, as rows of its batch. The promise is
the line in the log: the window engine's, or SynCoS's. Ends with an error where the two differ.
"""

import logging
import re
from collections.abc import Callable

import torch

from . import command
from .methods import LENGTH, METHODS, PATHS, Method, sampling, tiny_wan

FRAMES = 20  # latent frames: 6 static windows, 4 dilated ones
SIDE = 4  # latent pixels
MORE = {  # methods that cost otherwise
    "ABAM, cache auto": Method({"windows": PATHS, "abam": {"cache": "auto"}}),
    "ABAM, cache recompute, some steps": Method(
        {"windows": PATHS, "abam": {"cache": "recompute", "start_percent": 0.3, "end_percent": 0.9}}
    ),
    "global path alone": Method({"windows": PATHS | {"gamma0": 1.0, "beta": 0.0}}),
    "global path, some steps": Method({"windows": PATHS | {"global_every": 2, "global_until": 0.5}}),
    "first_latent anchor": Method({"windows": {"first_latent": "anchor"}}),
    "CFG in part": Method({"windows": PATHS | {"cfg_until": 0.5}, "abam": {"cache": "gpu"}}),
    "CFG in part, cache recompute": Method({"windows": {"cfg_until": 0.5}, "abam": {"cache": "recompute"}}),
    "CFG in part, SynCoS": Method({"windows": {"fuse": "flat", "cfg_until": 0.5}, "syncos": {}}),
    "CFG in part, SynCoS, cond_only": Method({"windows": {"fuse": "flat", "cfg_until": 0.5},
                                              "syncos": {"cond_only": True}}),
    "SynCoS, cond_only": Method({"windows": {"fuse": "flat"}, "syncos": {"cond_only": True}}),
    "SynCoS, second stage": Method({"windows": {"fuse": "flat"}, "syncos": {"stages": "second"}}),
}
CASES = METHODS | MORE
PLAIN = re.compile(r"= (\d+) window evaluations")
COUPLED = re.compile(r"(\d+) window predictions.*?(?:\((\d+) of them without the negative prompt\))?\.?$")


def parse(argv):
    parser = command.parser("evaluations", __doc__)
    parser.add_argument("--methods", nargs="+", default=list(CASES), choices=list(CASES), metavar="NAME")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="windows per model call, at most")
    return parser.parse_args(argv)


class Lines(logging.Handler):
    """The pack's lines in the log."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def said(lines: list[str]) -> int | None:
    """The evaluations that the lines promise, both CFG branches; None: no line does. SynCoS's line counts, if any."""
    for line in lines:
        if line.startswith("SynCoS") and (found := COUPLED.search(line)):
            return 2 * int(found[1]) - int(found[2] or 0)
    return next((int(found[1]) for line in lines if (found := PLAIN.search(line))), None)


def counted(run_with: Callable[[object], Callable[[], torch.Tensor]], model) -> tuple[int, int, list[str]]:
    """(evaluations, model calls, lines in the log) of the run that run_with(a model) gives."""
    rows = []

    def count(apply, args):
        rows.append(args["input"].shape[0])
        return apply(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(count)
    logger, handler = logging.getLogger("longtake"), Lines()
    before, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        run_with(model)()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagates
    return sum(rows), len(rows), handler.lines


def compare(method: Method, batch: int, model) -> tuple[int | None, int, int]:
    """(promised evaluations, counted ones, model calls) of a run of the method with `batch` windows per call."""
    shape = (1, 16, FRAMES, SIDE, SIDE)
    evaluations, calls, lines = counted(lambda m: sampling(method, m, shape, 3, window_batch=batch), model)
    return said(lines), evaluations, calls


def main(argv=None):
    args = parse(argv)
    model, wrong = tiny_wan(dim=128, layers=2, patch=(1, 2, 2)), []
    print(f"{FRAMES} latent frames, windows of {LENGTH}, 3 steps, CFG\n")
    print("| method | windows per call | cost line | counted | model calls | |\n|---|---|---|---|---|---|")
    for name in args.methods:
        method = CASES[name]
        for batch in args.batches if "windows" in method.parts else [1]:
            promised, evaluations, calls = compare(method, batch, model)
            right = promised == evaluations or "windows" not in method.parts and promised is None
            wrong += [] if right else [f"{name}, {batch} per call"]
            print(f"| {name} | {batch} | {promised or '-'} | {evaluations} | {calls} | {'' if right else 'differs'} |",
                  flush=True)  # fmt: skip
    if wrong:
        raise SystemExit(f"cost line and count differ: {'; '.join(wrong)}")

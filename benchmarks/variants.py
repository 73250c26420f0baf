"""The benchmark's variants: which of the pack's nodes sample a video, and with which inputs. Data alone, no ComfyUI."""

REFERENCE = "genl"  # what all variants are compared with

# A variant names the parts that it uses; a part's dict has what differs from these inputs of its node.
INPUTS = {
    "windows": dict(
        overlap=28, schedule="static", shift_seed=0, fuse="pyramid", global_path=False, gamma0=0.005, beta=5e-4,
        global_every=1, global_until=1.0, first_latent="as_is", overlap_end=-1, closed_loop=False,
        global_mix="weight", global_cut=0.25, dilation=0, global_padding="end", cfg_until=1.0,
    ),
    "noise": dict(mode="shuffle_and_mix", filter="butterworth", d_s=0.25, d_t=0.25, order=4, variance="per_frequency"),
    "abam": dict(anchor=0.1, first_layer=0, last_layer=-1, start_percent=0.0, end_percent=1.0),
    "ditctrl": dict(first_layer=-5, last_layer=-1, start_percent=0.03, end_percent=0.49),
    "infinity": dict(
        global_frames=16, bias=10.0, threshold=800.0, logit_scale=False, first_layer=0, last_layer=-1,
        start_percent=0.0, end_percent=1.0,
    ),
    "vmcr": dict(
        omega=2e-5, lambda_f=0.2, lambda_mse=0.001, lambda_phase=1.0, phase="wrapped", rescale=True, start_percent=0.0,
        end_percent=1.0,
    ),
    "lazy": dict(reuse_threshold=0.2, start_percent=0.15, end_percent=0.95),
    "core": dict(overlap=28, schedule="standard_static", freenoise=False, fuse="pyramid", stride=1),
    "kj": dict(overlap=0, schedule="batched_shifted", freenoise=True, fuse="pyramid"),
    "fifo": dict(partitions=2, lookahead=True, start="clip"),
    "mevg": dict(
        begin="renoise", start_percent=0.2, shared_noise=1.0, lfai=1000.0, sgs=7.0, first_latent="anchor",
    ),
}  # fmt: skip
GLOBAL = {  # no meaning without the path
    "gamma0", "beta", "global_every", "global_until", "global_mix", "global_cut", "dilation", "global_padding",
}  # fmt: skip
MIX = {"filter", "d_s", "d_t", "order", "variance"}  # ... where no frequencies are mixed

PAPER = {"windows": {"schedule": "random_shift", "global_path": True}, "noise": {}, "abam": {}, "vmcr": {}}
BEST = PAPER | {"noise": {"d_s": 0.1, "d_t": 0.1}, "abam": {"anchor": 0.3}, "vmcr": {"omega": 2e-4}}


def without(*parts: str, **changes) -> dict:
    """The paper's method less some parts, or with some of its windows' inputs changed."""
    variant = {name: inputs for name, inputs in PAPER.items() if name not in parts}
    return variant | ({"windows": PAPER["windows"] | changes} if changes else {})


VARIANTS = {
    "direct": {},
    "genl": {"windows": {}},
    "freenoise": {"windows": {}, "noise": {"mode": "shuffle"}},
    "freelong": {
        "windows": {"global_path": True, "global_mix": "frequencies", "first_latent": "anchor"},
        "noise": {"mode": "shuffle"},
    },
    "freelong_bands": {
        "windows": {"global_path": True, "global_mix": "bands", "first_latent": "anchor"},
        "noise": {"mode": "spec_mix"},
    },
    "ditctrl": {"windows": {}, "ditctrl": {"first_layer": -1}},
    "infinity": {"windows": {}, "infinity": {}},
    "fifo": {"fifo": {}},
    "mevg": {"mevg": {}},
    "wo_glcd": without("windows", "abam"),
    "wo_global": without(global_path=False),
    "wo_local": without(gamma0=1.0, beta=0.0),
    "wo_noise": without("noise"),
    "wo_abam": without("abam"),
    "wo_vmcr": without("vmcr"),
    "ours": PAPER,
    "best": BEST,
}
RIVALS = {"core": {"core": {}}, "kj": {"kj": {}}}  # other packs' windows, one by name
MEANING = {
    "direct": "the whole long latent in one model call, no windows",
    "genl": "Gen-L-Video: static local windows, plain noise",
    "freenoise": "static local windows, FreeNoise's shuffled noise",
    "freelong": "local and global windows joined by frequency, FreeNoise's shuffled noise",
    "freelong_bands": "FreeLong++: bands of temporal frequencies from several distances, SpecMix noise",
    "ditctrl": "DiTCtrl: keys and values of the window before, in the last of 6 layers, early steps",
    "infinity": "Video-Infinity: windows attend to 13 frames spread over the video, too",
    "fifo": "FIFO-Diffusion: a queue of two clips, lookahead",
    "mevg": "MEVG: clip after clip, each begun from the last frame before it",
    "wo_glcd": "no windows (and so no anchor attention): mixed noise and VMCR alone",
    "wo_global": "without the global path",
    "wo_local": "without the local path: gamma0 = 1, beta = 0",
    "wo_noise": "without noise reinitialisation: plain noise",
    "wo_abam": "without anchor attention",
    "wo_vmcr": "without motion refinement",
    "ours": "GLC-Diffusion with the paper's values",
    "best": "GLC-Diffusion with the values that drift least here: d_s, d_t 0.1, anchor 0.3, omega 2e-4",
    "core": "ComfyUI's Context Windows; freenoise: with its FreeNoise",
    "kj": "KJNodes' Context Windows Visualizer: windows without overlap whose seams roll, FreeNoise",
}


def variant(text: str, everywhere: list[str]) -> tuple[str, dict]:
    """ "ours:gamma0=0.05" -> (its label, all inputs of each part that it uses)."""
    name, _, changes = text.partition(":")
    every = VARIANTS | RIVALS
    if name not in every:
        raise ValueError(f"--variants: {name} is not one of {', '.join(every)}")
    changes = [c for c in changes.split(",") if c] + (everywhere if name != REFERENCE else [])
    parts = {part: INPUTS[part] | inputs for part, inputs in every[name].items()}
    for change in changes:
        key, _, value = change.partition("=")
        if key in INPUTS and value in ("on", "off"):
            parts.pop(key, None)
            parts |= {key: INPUTS[key]} if value == "on" else {}
            continue
        part, _, key = key.rpartition(".")
        among = parts if name in RIVALS else [p for p in INPUTS if p not in RIVALS]
        owners = [p for p in among if key in INPUTS[p] and part in ("", p)]
        if len(owners) != 1:
            raise ValueError(f"{change}: {'say ' + ' or '.join(f'{p}.{key}' for p in owners) if owners else 'unknown'}")
        if owners[0] in parts:
            parts[owners[0]] = parts[owners[0]] | {key: typed(change, value, INPUTS[owners[0]][key])}
    return f"{name}:{','.join(changes)}" if changes else name, parts


def typed(change: str, value: str, default):
    if not isinstance(default, bool):
        return type(default)(value)
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{change}: true or false")
    return value.lower() == "true"


def effective(parts: dict) -> dict:
    """The inputs that change a run."""
    parts = {part: dict(inputs) for part, inputs in parts.items()}
    windows, noise = parts.get("windows", {}), parts.get("noise", {})
    idle = set() if windows.get("global_path") else GLOBAL
    idle = idle | (set() if windows.get("schedule") in ("random_shift", "random_shift_each") else {"shift_seed"})
    if windows.get("cfg_until") == 1.0:
        idle = idle | {"cfg_until"}
    parts |= {"windows": {k: v for k, v in windows.items() if k not in idle}} if windows else {}
    if noise.get("mode") == "random":
        del parts["noise"]
    elif noise.get("mode") in ("shuffle", "spec_mix"):
        parts["noise"] = {k: v for k, v in noise.items() if k not in MIX}
    return parts

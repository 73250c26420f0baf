"""Find and read CogVideoX's files in ComfyUI's model folders: safetensors and JSON only, nothing from outside them.

A diffusers folder holds transformer/, vae/, text_encoder/ and scheduler/, each with a config and, but for the
scheduler, safetensors in one file or in shards with an index. Single files lie in diffusion_models, vae and
text_encoders.
"""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath

import comfy.utils
import folder_paths
import safetensors

from ...samplers.adapters.model_folders import inside
from ...samplers.checks import short, shown

NODE = "Load CogVideoX (LongTakeCogVideoXLoader)"
IN_FOLDER = "from the model folder"
PAGES = (
    "THUDM/CogVideoX-2b, THUDM/CogVideoX-5b, THUDM/CogVideoX-5b-I2V, THUDM/CogVideoX1.5-5B or "
    "THUDM/CogVideoX1.5-5B-I2V"
)
HUB = "on the Hugging Face hub"
SINGLE = ("diffusion_models", "vae", "text_encoders")
SUFFIX = ".safetensors"
LARGEST_SIZE = 10**6  # of anything that a configuration counts
LONGEST_NAME = 1000  # with its folders; file systems take 255 to a part
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def model_folders() -> list[str]:
    """Diffusers folders by their names under models/diffusers (one or two levels deep), broken ones included."""
    found = set()
    for base in map(Path, folder_paths.get_folder_paths("diffusers")):
        for pattern in ("*/transformer", "*/*/transformer"):
            found |= {p.parent.relative_to(base).as_posix() for p in base.glob(pattern) if p.is_dir()}
    return sorted(found)


def single_files(category: str) -> list[str]:
    """The safetensors files of one of ComfyUI's model categories."""
    return [name for name in folder_paths.get_filename_list(category) if name.lower().endswith(SUFFIX)]


def plain(name: str, widget: str) -> str:
    """`name`, if it stays below the folder it is looked up in."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME or "\0" in name:
        raise ValueError(f"{NODE}: {widget} ({shown(name)}) must be a name from the list")
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise ValueError(
            f"{NODE}: {widget}: {name!r} is not a name inside ComfyUI's model folders; choose one from the list"
        )
    return path.as_posix()


def _inside(path: Path) -> Path:
    """`path`, if it lies in a model folder."""
    try:
        return inside(path, "diffusers", *SINGLE)
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error


def _is(kind, path: Path) -> bool:
    """Path.is_dir or Path.is_file, for names, too, that no file can have."""
    try:
        return kind(path)
    except OSError:
        return False


def find_folder(name: str) -> Path:
    """The diffusers folder called `name` (the node's model input)."""
    name = plain(name, "model")
    bases = [Path(base) for base in folder_paths.get_folder_paths("diffusers")]
    for base in bases:
        if _is(Path.is_dir, base / name):
            return _inside(base / name)
    raise FileNotFoundError(
        f"{NODE}: model: there is no folder {name} in {' or '.join(map(str, bases))}; put the files of {PAGES} {HUB} "
        f"there"
    )


def find_file(category: str, name: str, widget: str, page: str = PAGES) -> Path:
    """The single file called `name` of a model category (the node's input `widget`)."""
    name = plain(name, widget)
    bases = [Path(base) for base in folder_paths.get_folder_paths(category)]
    for base in bases:
        if _is(Path.is_file, base / name):
            return _safetensors(base / name, page)
    raise FileNotFoundError(
        f"{NODE}: {widget}: there is no file {name} in {' or '.join(map(str, bases))}; get one from {page} {HUB}"
    )


def _safetensors(path: Path, page: str) -> Path:
    if path.suffix.lower() != SUFFIX:
        kind = "a pickle, which can run code when it is read" if path.suffix.lower() in PICKLES else "no safetensors"
        raise ValueError(f"{NODE}: {path} is {kind}; only safetensors are loaded. Get one from {page} {HUB}")
    return _inside(path)


def read_json(path: Path, page: str = PAGES) -> dict:
    """A configuration file of a diffusers folder."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{NODE}: model: {path.name} is missing from {path.parent}; get it from {page} {HUB} "
            f"({path.parent.name}/{path.name})"
        )
    try:
        value = json.loads(_inside(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{NODE}: {path} is nested too deeply; get it again from {page} {HUB}") from error
    except (ValueError, OSError) as error:  # not JSON, not UTF-8, a number of too many digits
        raise ValueError(f"{NODE}: {path} is not readable JSON ({error}); get it again from {page} {HUB}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{NODE}: {path} is not a configuration; get it again from {page} {HUB}")
    return value


def _counts(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST_SIZE


def same_kinds(config: dict, expected: dict, path: Path, page: str) -> None:
    """Raise ValueError unless each setting is of the kind that it has in `expected`, and numbers are ones that sizes
    and factors can be."""
    for name, value in config.items():
        like = expected.get(name)
        if isinstance(like, bool):
            fits = isinstance(value, bool)
        elif isinstance(like, int):
            fits = _counts(value) and value >= 0 and value == int(value)
        elif isinstance(like, float):
            fits = _counts(value)
        elif isinstance(like, str):
            fits = isinstance(value, str)
        elif isinstance(like, (list, tuple)):
            fits = isinstance(value, (list, tuple)) and value and all(isinstance(v, type(like[0])) for v in value)
        else:
            continue
        if not fits:
            raise ValueError(
                f"{NODE}: {path} has {name} {short(value)}, which should be like {short(like)}; get it again from "
                f"{page} {HUB}"
            )


def weight_files(folder: Path, stem: str, page: str = PAGES) -> list[Path]:
    """The safetensors of one part of a diffusers folder: `stem`.safetensors, its fp16 variant, or an index's shards."""
    for name in (stem + SUFFIX, f"{stem}.fp16{SUFFIX}"):
        if (folder / name).is_file():
            return [_safetensors(folder / name, page)]
    index = folder / f"{stem}{SUFFIX}.index.json"
    if not index.is_file():
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix.lower() in PICKLES) if folder.is_dir() else []
        hint = f" ({pickles[0]} is a pickle, which can run code when it is read)" if pickles else ""
        raise FileNotFoundError(
            f"{NODE}: model: {stem}{SUFFIX} (or {index.name} and its shards) is missing from {folder}{hint}; get it "
            f"from {page} {HUB} ({folder.name}/)"
        )
    shards = read_json(index, page).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{NODE}: {index} lists no files; get it again from {page} {HUB}")
    files = []
    for name in sorted({str(shard) for shard in shards.values()}):
        if PurePosixPath(name.replace("\\", "/")).name != name or name == "..":
            raise ValueError(
                f"{NODE}: {index} names {name!r}, which is not a file in its folder; get it again from {page} {HUB}"
            )
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{NODE}: model: {name} is missing from {folder}, but {index.name} lists it; get it from {page} {HUB} "
                f"({folder.name}/{name})"
            )
        files.append(_safetensors(folder / name, page))
    return files


def _unreadable(path: Path, page: str, error: Exception) -> ValueError:
    return ValueError(
        f"{NODE}: {path} cannot be read as safetensors ({error}). It may be truncated: get it again from {page} {HUB}"
    )


def read_shapes(path: Path, page: str = PAGES) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors by name, from its header alone."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise _unreadable(path, page, error) from error


def read_weights(files: list[Path], page: str = PAGES) -> tuple[dict, dict]:
    """(state dict of all `files` together, metadata of the first)."""
    weights, metadata = {}, {}
    for path in files:
        try:
            part, header = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        except Exception as error:
            raise _unreadable(path, page, error) from error
        weights.update(part)
        metadata = metadata or header or {}
    return weights, metadata


def check_weights(weights: dict, expected: dict, where: str, page: str, extras: bool = False) -> None:
    """Raise ValueError unless `weights` has the tensors of `expected` (name -> shape) and (unless `extras`) no more."""
    missing = [name for name in expected if name not in weights]
    extra = [] if extras else [name for name in weights if name not in expected]
    wrong = [name for name in expected if name in weights and tuple(weights[name].shape) != tuple(expected[name])]
    if not (missing or extra or wrong):
        return
    if missing:
        detail = f"it has no {missing[0]} ({len(missing)} of {len(expected)} tensors are missing)"
    elif wrong:
        found, right = tuple(weights[wrong[0]].shape), tuple(expected[wrong[0]])
        detail = f"{wrong[0]} has the shape {found}, not {right}"
    else:
        detail = f"it has {extra[0]}, which the model has not"
    raise ValueError(f"{NODE}: the weights in {where} do not fit CogVideoX: {detail}; get them again from {page} {HUB}")

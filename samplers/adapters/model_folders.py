"""Nothing is read from outside ComfyUI's model folders, wherever links lead."""

from pathlib import Path

import folder_paths


def inside(path: Path, *categories: str) -> Path:
    """`path`, if what it stands for, links followed, lies in models/ or in a folder of these categories of ComfyUI's.
    The folders themselves may be links. Raises ValueError."""
    bases = [folder_paths.models_dir, *(base for name in categories for base in folder_paths.get_folder_paths(name))]
    real = path.resolve()
    if not any(real.is_relative_to(Path(base).resolve()) for base in bases):
        raise ValueError(
            f"{path} is a link to {real}, outside ComfyUI's model folders, and is not read; copy it into them, or name "
            f"its folder as {' or '.join(categories)} in extra_model_paths.yaml"
        )
    return path

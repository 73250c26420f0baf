"""Widgets whose bounds core checks in full; the rest of ComfyUI's node API version is _api.py."""

from ._api import io


class Least(float):
    """The lower bound of a FLOAT, which NaN does not reach: core asks `value < bound`, and plainly NaN never is."""

    def __gt__(self, value) -> bool:
        return not value >= float(self)

    __hash__ = float.__hash__


class Float(io.Float.Input):
    """A FLOAT that cannot be NaN."""

    def __init__(self, *args, min: float, max: float, **kwargs):
        super().__init__(*args, min=Least(min), max=max, **kwargs)


class Options(list):
    """A COMBO's options as its type, as V1 nodes have them. An output of the type COMBO may still be linked to it."""

    def __ne__(self, other) -> bool:
        return other != io.Combo.io_type and list.__ne__(self, other)

    def __hash__(self) -> int:  # newer cores look a type up among those of their dynamic inputs
        return hash(tuple(self))


class Combo(io.Combo.Input):
    """A COMBO with one of its options: ComfyUI 0.3 checks that only where the options are its type."""

    def get_io_type(self):
        return Options(self.options)

"""The next small world, for weights in training: a stage with horizon and texture, an outlined subject with eyes."""

from . import reader, world

__all__ = ["reader", "world"]

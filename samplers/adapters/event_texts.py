"""The texts of several events side by side, as one conditioning entry of a window, and whose text each of its frames
reads. event_attention.py keeps every frame to its own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.conds
import torch

TEXTS = "longtake_event_texts"  # key in an entry's model_conds; core hands it to apply_model by this name
BY_TOKEN = ("c_crossattn", "attention_mask")  # of a prompt: [B, tokens, ..]


@dataclass(frozen=True)
class EventTexts:
    """tokens: of each event's text, in the order in which they stand in c_crossattn; frames: of each latent frame that
    the model sees, its events (numbers into `tokens`, neighbours) and their weights (prompts/frame_times.py)."""

    tokens: tuple[int, ...]
    frames: tuple[tuple[tuple[int, float], ...], ...]

    def part(self, first: int, last: int) -> slice:
        """The tokens of the events first..last."""
        return slice(sum(self.tokens[:first]), sum(self.tokens[: last + 1]))

    def mean(self) -> tuple[tuple[int, float], ...]:
        """Each event's share of all frames: what tokens that are no frame's (reference images) read."""
        shares = [0.0] * len(self.tokens)
        for frame in self.frames:
            for event, weight in frame:
                shares[event] += weight / len(self.frames)
        return tuple(enumerate(shares))


class EventTextsCond(comfy.conds.CONDRegular):
    """cond: an EventTexts for each row of the batch. No tensor: which rows and frames read what is known on the CPU."""

    def process_cond(self, batch_size: int, area=None, **kwargs):
        rows = self.cond
        if area is not None and len(area) == 6:  # in time: the model sees some of the window's frames
            size, start = area[0], area[3]
            rows = tuple(dataclasses.replace(row, frames=row.frames[start : start + size]) for row in rows)
        repeats = -(-batch_size // len(rows))
        return self._copy_with((rows * repeats)[:batch_size])

    def can_concat(self, other) -> bool:
        """Texts of one length: core would repeat a shorter one, and all of its tokens would be somewhere else."""
        return len({sum(row.tokens) for row in (*self.cond, *other.cond)}) == 1

    def concat(self, others):
        return tuple(row for cond in (self, *others) for row in cond.cond)

    def size(self) -> list[int]:
        return [len(self.cond)]


def side_by_side(entry: dict, events: Sequence[dict], frames: Sequence[Sequence[tuple[int, float]]]) -> dict:
    """An entry whose prompt is the texts of `events`, each with all of its tokens (padding, too: what a model attends
    to of one prompt stays as it is), and else `entry`; frames: see EventTexts."""
    conds = [event["model_conds"] for event in events]
    tokens = tuple(c["c_crossattn"].cond.shape[1] for c in conds)
    own = {**entry["model_conds"], TEXTS: EventTextsCond((EventTexts(tokens, tuple(map(tuple, frames))),))}
    for key in BY_TOKEN:
        given = next((c[key] for c in conds if key in c), None)
        if given is not None:
            parts = [_of(c, key, n, given.cond) for c, n in zip(conds, tokens, strict=True)]
            batch = max(len(part) for part in parts)
            parts = [part.expand(batch, *part.shape[1:]) if len(part) != batch else part for part in parts]
            own[key] = given._copy_with(torch.cat(parts, 1))
    return {**entry, "model_conds": own}


def _of(conds: dict, key: str, tokens: int, like: torch.Tensor) -> torch.Tensor:
    """A prompt's tensor; ones for a prompt without an attention mask among others that have one."""
    return conds[key].cond if key in conds else like.new_ones(1, tokens)


def aligned(conds: Sequence[Sequence[list[dict] | None]], frames: Sequence[int]) -> list[list[list[dict] | None]]:
    """The same conds (of each window, entries by CFG branch) with texts of one length where events stand side by side,
    for windows that must share a call: shorter ones get tokens behind them that no frame reads. frames: latent frames
    that the model sees of each window."""
    out = [[branch and list(branch) for branch in branches] for branches in conds]
    for b, first in enumerate(out[0]):
        if first is None or len({len(branches[b]) for branches in out}) > 1:
            continue
        for e in range(len(first)):
            entries = [branches[b][e] for branches in out]
            if any(TEXTS in entry["model_conds"] for entry in entries):
                length = max(entry["model_conds"]["c_crossattn"].cond.shape[1] for entry in entries)
                for branches, entry, count in zip(out, entries, frames, strict=True):
                    branches[b][e] = _padded(entry, length, count)
    return out


def _padded(entry: dict, length: int, frames: int) -> dict:
    conds = entry["model_conds"]
    own = conds["c_crossattn"].cond.shape[1]
    texts = conds[TEXTS].cond[0] if TEXTS in conds else EventTexts((own,), (((0, 1.0),),) * frames)
    added = {TEXTS: EventTextsCond((dataclasses.replace(texts, tokens=(*texts.tokens, length - own)),))}
    for key in BY_TOKEN:
        if key in conds:
            value = conds[key].cond
            behind = (0, 0) * (value.ndim - 2) + (0, length - own)
            added[key] = conds[key]._copy_with(torch.nn.functional.pad(value, behind))
    return {**entry, "model_conds": {**conds, **added}}


def grouped(indices: Sequence[int], conds: Sequence[Sequence[list[dict] | None]]) -> list[list[int]]:
    """Windows that do not fit into one model call, in smaller groups: where events stand side by side, those of equally
    long texts, the first one's group first; else each alone. conds: of each window, entries by CFG branch."""
    groups: dict[tuple, list[int]] = {}
    for index, branches in zip(indices, conds, strict=True):
        entries = [entry["model_conds"].get(TEXTS) for branch in branches if branch for entry in branch]
        key = tuple(0 if texts is None else sum(texts.cond[0].tokens) for texts in entries)
        groups.setdefault(key, []).append(index)
    several = len(groups) > 1 and any(map(any, groups))
    return list(groups.values()) if several else [[index] for index in indices]


def same_hooks(events: Sequence[Sequence[dict]]) -> bool:
    """Whether events (their entries, one per range of scheduled hooks) have the same hooks, so that one evaluation of
    the model serves them all."""
    return len({tuple(map(_hooks, entries)) for entries in events}) < 2


def _hooks(entry: dict) -> tuple:
    group = entry.get("hooks")
    return () if group is None else tuple(group.hooks)

"""Which settings differ between branches of one graph: of a prompt as ComfyUI runs it, {id: {class_type, inputs}}.

Nodes are matched from the branches' ends upwards: the same node in both is one; then nodes of a class that play the
same part (what feeds the same input of matched nodes); then what is left, by class and order.
"""

import contextlib
import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from numbers import Real

NOT_THERE = "not there"
LONGEST = 160  # signs of a cell
SECRET = re.compile(
    r"(^|[\W_]|(?-i:(?<=[a-z])(?=[A-Z])))"  # where a word of the name begins
    r"(api_?key|key|token|pass(word|wd|phrase)|secret|auth(_\w+|orization)?|credentials?)$",
    re.IGNORECASE,
)


@dataclass
class Row:
    """Nodes that were matched. nodes: {branch: id}."""

    kind: str
    nodes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """setting: of what node, and which; values: one text per branch."""

    setting: str
    values: tuple[str, ...]


def link(value) -> tuple[str, int] | None:
    """The node and the output that an input is linked to."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Real):
        return value[0], int(value[1])
    return None


def inputs(graph: dict, node: str) -> dict:
    return graph[node].get("inputs") or {}


def ancestors(graph: dict, end: str) -> list[str]:
    """`end` and all that it needs, nearest first."""
    found, waiting = [], deque([end])
    while waiting:
        node = waiting.popleft()
        if node in graph and node not in found:
            found.append(node)
            waiting.extend(source[0] for source in map(link, inputs(graph, node).values()) if source)
    return found


def matched(graph: dict, ends: Sequence[str]) -> tuple[list[Row], list[dict[str, Row]]]:
    """All rows, and for each branch the row of each of its nodes. ends: the last node of each branch."""
    rows: list[Row] = []
    places: list[dict[str, Row]] = []
    for branch, end in enumerate(ends):
        own = ancestors(graph, end)
        users: dict[str, list[tuple[str, str]]] = {node: [] for node in own}
        for node in own:
            for name, value in inputs(graph, node).items():
                source = link(value)
                if source and source[0] in users:
                    users[source[0]].append((node, name))
        place: dict[str, Row] = {}

        def put(node, row, branch=branch, place=place):
            row.nodes[branch] = node
            place[node] = row

        def free(node, row, branch=branch) -> bool:
            return branch not in row.nodes and row.kind == graph[node]["class_type"]

        def same_part(node, place=place, users=users, end=end, free=free) -> Row | None:
            found = [places[b].get(ends[b]) for b in range(len(places))] if node == end else []
            for user, name in users[node]:
                for other, twin in place[user].nodes.items() if user in place else ():
                    source = link(inputs(graph, twin).get(name)) if other < len(places) else None
                    found.append(places[other].get(source[0]) if source else None)
            return next((row for row in found if row and free(node, row)), None)

        for node in own:
            row = next((earlier[node] for earlier in places if node in earlier), None)
            if row and branch not in row.nodes:  # two nodes of this one may each be another's
                put(node, row)
        left = [node for node in own if node not in place]
        while left:
            pair = next(((node, row) for node in left if (row := same_part(node))), None)
            pair = pair or next(((node, row) for node in left for row in rows if free(node, row)), None)
            if pair is None:
                break
            put(*pair)
            left.remove(pair[0])
        for node in left:
            rows.append(Row(graph[node]["class_type"]))
            put(node, rows[-1])
        places.append(place)
    return rows, places


def depths(graph: dict) -> dict[str, int]:
    """How many nodes stand before each, at most; none of a graph with a ring, which ComfyUI refuses."""
    before = {node: [s[0] for s in map(link, inputs(graph, node).values()) if s and s[0] in graph] for node in graph}
    found: dict[str, int] = {}
    with contextlib.suppress(CycleError):
        for node in TopologicalSorter(before).static_order():
            found[node] = 1 + max((found[source] for source in before[node]), default=-1)
    return found


def one_line(text: str) -> str:
    return " ".join(text.split())


def title(graph: dict, node: str) -> str:
    return one_line(str((graph[node].get("_meta") or {}).get("title") or ""))


def named(graph: dict, rows: Sequence[Row], names: dict[str, str]) -> list[str]:
    """What each row is called: the title that its nodes share, or their class's name; numbered where two are alike."""
    found = []
    for row in rows:
        titles = {title(graph, node) for node in row.nodes.values()}
        found.append((titles.pop() if len(titles) == 1 else "") or names.get(row.kind) or row.kind)
    return [f"{name} {found[:i].count(name) + 1}" if found.count(name) > 1 else name for i, name in enumerate(found)]


def cut(values: Sequence[str]) -> list[str]:
    """Texts on one line that a cell can hold: long ones from a little before where they begin to differ."""
    flat = [" / ".join(line.strip() for line in value.splitlines()) for value in values]
    if max(map(len, flat)) <= LONGEST:
        return flat
    alike = next((i for i, signs in enumerate(zip(*flat, strict=False)) if len(set(signs)) > 1), min(map(len, flat)))
    begin = max(alike - 24, 0)
    parts = [text[begin : begin + LONGEST] + ("..." if len(text) > begin + LONGEST else "") for text in flat]
    return [f"...{part}" if begin else part for part in parts]


def plain(value):
    """A widget's value, out of the form in which front-ends send lists."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def text_of(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)


def equal(a, b) -> bool:
    both_nan = a != a and b != b
    return both_nan or (a == b and isinstance(a, bool) == isinstance(b, bool))


def hidden(name: str, value):
    return "(not shown)" if SECRET.search(name) else value


def all_settings(graph: dict, node: str) -> str:
    widgets = {name: plain(value) for name, value in inputs(graph, node).items() if link(value) is None}
    texts = [f"{name} {text_of(hidden(name, value))}" for name, value in widgets.items() if value not in ("", None)]
    return ", ".join(texts) or "there"


def differing(graph: dict, ends: Sequence[str], names: dict[str, str]) -> list[Difference]:
    """What differs between the branches that end in `ends`, first what is first in the graph. names: of the classes."""
    rows, places = matched(graph, ends)
    deep = depths(graph)
    rows.sort(key=lambda row: max(deep.get(node, 0) for node in row.nodes.values()))
    called = named(graph, rows, names)
    everywhere = {id(row): name for row, name in zip(rows, called, strict=True) if len(row.nodes) == len(ends)}
    found = []
    for row, name in zip(rows, called, strict=True):
        if id(row) not in everywhere:
            cells = [all_settings(graph, row.nodes[b]) if b in row.nodes else NOT_THERE for b in range(len(ends))]
            found.append(Difference(name, tuple(cut(cells))))
        elif len(set(row.nodes.values())) > 1:
            found += of_row(graph, places, everywhere, name, [row.nodes[b] for b in range(len(ends))])
    return found


def of_row(graph: dict, places, everywhere: dict[int, str], name: str, nodes: list[str]) -> list[Difference]:
    """What differs between nodes that were matched, one per branch."""
    found = []
    for key in dict.fromkeys(key for node in nodes for key in inputs(graph, node)):
        given = [plain(inputs(graph, node).get(key)) for node in nodes]
        sources = [link(value) for value in given]
        wired = [(places[b].get(s[0]), s[1]) if s else None for b, s in enumerate(sources)]
        if all(value is None for value in wired):
            same = all(equal(given[0], value) for value in given[1:])
            values = [text_of(hidden(key, value)) if value is not None else NOT_THERE for value in given]
        else:
            rows = [(id(end[0]), end[1]) if end else None for end in wired]
            same = all(end == rows[0] for end in rows)
            if not all(end is None or end[0] in everywhere for end in rows):
                # from a node that is not in every branch: it has a row of its own
                same = same or all(end or value is None for end, value in zip(rows, given, strict=True))
            values = [
                f"from {everywhere.get(end[0], graph[source[0]]['class_type'])}, output {end[1] + 1}" if end and source
                else NOT_THERE if value is None else text_of(hidden(key, value))
                for end, source, value in zip(rows, sources, given, strict=True)
            ]  # fmt: skip
        if not same:
            found.append(Difference(f"{name}: {key}", tuple(cut(values))))
    return found


def branch_names(graph: dict, ends: Sequence[str | None], letters: Sequence[str]) -> list[str]:
    """What each branch is called: by the titles of their last nodes where these differ; else by a letter."""
    titles = [title(graph, end) if end in graph else "" for end in ends]
    if len(set(titles)) < len(titles) or not all(titles):
        titles = list(letters)
    return titles


def labelled(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The same, but for the first ones' labels, where there is text in them."""
    return [one_line(label) or name for label, name in zip([*labels, *[""] * len(names)], names, strict=False)]


def as_markdown(differences: Sequence[Difference], names: Sequence[str]) -> str:
    def row(cells) -> str:
        return "".join(f"| {cell.replace('|', chr(92) + '|')} " for cell in cells) + "|"

    lines = [row(["Setting", *names]), "|" + "---|" * (len(names) + 1)]
    return "\n".join(lines + [row([d.setting, *d.values]) for d in differences])

"""Which settings differ between branches of a graph: matched nodes, added nodes, links, texts, secrets."""

import copy

import pytest
from longtake.samplers.graph_settings import LONGEST, NOT_THERE, as_markdown, branch_names, differing, labelled
from support.graphs import api_graph

NAMES = {"Windows": "Window Scheduler", "Anchor": "Anchor Attention", "Text": "Text Encode", "Sample": "Sampler"}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def plain_branch(prefix, model=("1", 0), overlap=8, text="a fox"):
    """Windows and a positive and a negative prompt into a sampler, decoded."""
    p = prefix
    return {
        f"{p}w": node("Windows", model=list(model), schedule="static", overlap=overlap),
        f"{p}+": node("Text", clip=["1", 1], text=text),
        f"{p}-": node("Text", clip=["1", 1], text="blurry"),
        f"{p}s": node("Sample", model=[f"{p}w", 0], positive=[f"{p}+", 0], negative=[f"{p}-", 0], seed=1, cfg=4.0),
        f"{p}d": node("Decode", samples=[f"{p}s", 0], vae=["1", 2]),
    }


@pytest.fixture
def graph():
    return {"1": node("Load", file="model"), **plain_branch("a"), **plain_branch("b")}


def found(graph, ends=("ad", "bd")):
    return [(d.setting, *d.values) for d in differing(graph, list(ends), NAMES)]


def test_equal_nodes_with_other_ids_and_shared_ones_do_not_differ(graph):
    assert found(graph) == [] and found(graph, ("ad", "ad")) == []
    graph["bs"]["inputs"] = dict(reversed(graph["bs"]["inputs"].items()))  # the order of inputs is none of theirs
    assert found(graph) == []


def test_widgets_that_differ_are_named_with_their_values(graph):
    graph["bw"]["inputs"] |= {"schedule": "random_shift", "overlap": 28}
    graph["bs"]["inputs"]["cfg"] = 4  # as front-ends send a whole number
    graph["1"]["inputs"]["file"] = "another"  # of both
    assert found(graph) == [("Window Scheduler: schedule", "static", "random_shift"),
                            ("Window Scheduler: overlap", "8", "28")]  # fmt: skip
    assert as_markdown(differing(graph, ["ad", "bd"], NAMES), ["a|b", "c"]).splitlines() == [
        r"| Setting | a\|b | c |", "|---|---|---|", "| Window Scheduler: schedule | static | random_shift |",
        "| Window Scheduler: overlap | 8 | 28 |",
    ]  # fmt: skip


@pytest.mark.parametrize("a, b, same", [
    (1, 1.0, True), (True, 1, False), (float("nan"), float("nan"), True), (float("nan"), 0.0, False),
    ({"__value__": [1, 2]}, [1, 2], True), ("1", 1, False), (None, None, True), ([0.1, 0.2], [0.1, 0.3], False),
])  # fmt: skip
def test_what_is_equal(graph, a, b, same):
    graph["as"]["inputs"]["value"], graph["bs"]["inputs"]["value"] = a, b
    assert (found(graph) == []) is same


def test_an_added_node_is_one_difference_and_what_stands_behind_it_is_still_matched(graph):
    graph["bx"] = node("Anchor", model=["bw", 0], strength=0.3)
    graph["bs"]["inputs"]["model"] = ["bx", 0]
    graph["bw"]["inputs"]["overlap"] = 28
    assert found(graph) == [("Window Scheduler: overlap", "8", "28"),
                            ("Anchor Attention", NOT_THERE, "strength 0.3")]  # fmt: skip
    graph["by"] = node("Anchor", model=["bx", 0], strength=0.5)
    graph["bs"]["inputs"]["model"] = ["by", 0]
    assert [row[::2] for row in found(graph)[1:]] == [("Anchor Attention 1", "strength 0.3"),
                                                      ("Anchor Attention 2", "strength 0.5")]  # fmt: skip


def test_nodes_are_matched_by_their_part_before_their_order(graph):
    """b's positive prompt is of another class: its negative is not taken for a's positive."""
    graph["b+"] = node("Timeline", clip=["1", 1], events="0s: a fox")
    assert found(graph) == [("Text Encode 1", "text a fox", NOT_THERE), ("Timeline", NOT_THERE, "events 0s: a fox")]


def test_one_shared_node_and_one_own_of_a_class(graph):
    graph["bs"]["inputs"]["negative"] = ["a-", 0]
    del graph["b-"]
    graph["b+"]["inputs"]["text"] = "a wolf"
    assert found(graph) == [("Text Encode 1: text", "a fox", "a wolf")]


def test_links_that_lead_elsewhere_are_differences(graph):
    graph["bs"]["inputs"] |= {"positive": ["b-", 0], "negative": ["b+", 0]}
    told = found(graph)  # by their parts the texts differ
    assert {row[0][:11] for row in told} == {"Text Encode"} and len(told) == 2
    graph["bs"]["inputs"] |= {"positive": ["a-", 0], "negative": ["a+", 0]}
    assert found(graph) == [
        ("Sampler: positive", "from Text Encode 1, output 1", "from Text Encode 2, output 1"),
        ("Sampler: negative", "from Text Encode 2, output 1", "from Text Encode 1, output 1"),
    ]
    graph["bs"]["inputs"] |= {"positive": ["a+", 1], "negative": ["a-", 0]}
    assert found(graph) == [("Sampler: positive", "from Text Encode 1, output 1", "from Text Encode 1, output 2")]


def test_the_order_of_two_patches_is_a_difference(graph):
    graph |= {"ax": node("Anchor", model=["aw", 0], strength=0.3), "bx": node("Anchor", model=["1", 0], strength=0.3)}
    graph["as"]["inputs"]["model"] = ["ax", 0]
    graph["bw"]["inputs"]["model"] = ["bx", 0]
    assert ("Sampler: model", "from Anchor Attention, output 1", "from Window Scheduler, output 1") in found(graph)


def test_a_value_and_a_link_to_one(graph):
    graph["n"] = node("PrimitiveInt", value=7)
    graph["bs"]["inputs"]["seed"] = ["n", 0]
    assert ("Sampler: seed", "1", "from PrimitiveInt, output 1") in found(graph)


def test_three_branches_with_a_node_in_two(graph):
    graph |= plain_branch("c", overlap=12)
    for p, strength in (("b", 0.3), ("c", 0.5)):
        graph[f"{p}x"] = node("Anchor", model=[f"{p}w", 0], strength=strength)
        graph[f"{p}s"]["inputs"]["model"] = [f"{p}x", 0]
    assert found(graph, ("ad", "bd", "cd")) == [
        ("Window Scheduler: overlap", "8", "8", "12"),
        ("Anchor Attention", NOT_THERE, "strength 0.3", "strength 0.5"),
    ]


def test_long_texts_are_cut_to_where_they_differ(graph):
    common = "a fox in the snow, " * 40
    graph["a+"]["inputs"]["text"], graph["b+"]["inputs"]["text"] = common + "red\nby day", common + "white\nby night"
    ((_, a, b),) = found(graph)
    assert a.endswith("red / by day") and b.endswith("white / by night") and a.startswith("...")
    assert max(len(a), len(b)) < LONGEST


def test_a_branch_with_the_nodes_of_two_others():
    graph = {"A": node("Load", file="a"), "B": node("Load", file="b"), "M": node("Merge", one=["A", 0], two=["B", 0])}
    graph |= {f"s{p}": node("Sample", model=[p, 0]) for p in "ABM"}
    assert found(graph, ("sA", "sB", "sM")) == [
        ("Load 1: file", "a", "b", "a"),
        ("Load 2", NOT_THERE, NOT_THERE, "file b"),
        ("Merge", NOT_THERE, NOT_THERE, "there"),
    ]


def test_lists_are_cut_to_where_they_differ(graph):
    graph["as"]["inputs"]["sigmas"], graph["bs"]["inputs"]["sigmas"] = [*range(99), 1], [*range(99), 2]
    ((_, a, b),) = found(graph)
    assert a.endswith("98, 1]") and b.endswith("98, 2]") and len(a) < LONGEST


@pytest.mark.parametrize("name", ["api_key", "token", "auth_token", "password", "key", "secret", "apikey", "auth",
                                  "x-api-key", "accessToken", "HF token"])
def test_secrets_are_not_shown(graph, name):
    graph["as"]["inputs"][name], graph["bs"]["inputs"][name] = "sesame", "swordfish"
    graph["bx"] = node("Anchor", model=["bw", 0], **{name: "rosebud"})
    graph["bs"]["inputs"]["model"] = ["bx", 0]
    text = str(found(graph))
    assert "not shown" in text and not any(word in text for word in ("sesame", "swordfish", "rosebud"))


@pytest.mark.parametrize("name", ["keyframes", "tokens", "seed", "author", "monkey", "bytoken"])
def test_what_only_sounds_like_a_secret_is_shown(graph, name):
    graph["as"]["inputs"][name], graph["bs"]["inputs"][name] = "sesame", "swordfish"
    assert "sesame" in str(found(graph))


def test_broken_graphs_are_compared_as_far_as_they_go(graph):
    graph["as"]["inputs"]["model"] = ["gone", 0]
    graph["bw"]["inputs"]["model"] = ["bs", 0]  # a ring
    graph["bd"].pop("inputs")
    assert found(graph)


def test_titles_name_branches_and_nodes(graph):
    graph["ad"]["_meta"], graph["bd"]["_meta"] = {"title": "Left"}, {"title": "Right"}
    assert branch_names(graph, ["ad", "bd"], "ab") == ["Left", "Right"]
    assert labelled(["Left", "Right"], ["", " mine "]) == ["Left", "mine"]
    assert branch_names(graph, ["ad", "ad"], "ab") == ["a", "b"] == labelled("ab", [])
    assert labelled("ab", ["", "x", "y"]) == ["a", "x"]
    assert branch_names({}, [None, None], "ac") == ["a", "c"]
    graph["ad"]["_meta"]["title"] = "two\nlines"  # a table has one
    assert labelled(branch_names(graph, ["ad", "bd"], "ab"), ["", "a\n\tb"]) == ["two lines", "a b"]
    graph["aw"]["_meta"] = graph["bw"]["_meta"] = {"title": "My windows"}
    graph["bw"]["inputs"]["overlap"] = 1
    assert found(graph) == [("My windows: overlap", "8", "1")]
    graph["bw"]["_meta"] = {"title": "Other"}
    assert found(graph) == [("Window Scheduler: overlap", "8", "1")]


def test_the_packs_own_graph():
    graph = api_graph("compare")
    told = found(graph, ("12", "13"))
    assert [row[0] for row in told] == [
        "LongTakeWindowScheduler: schedule", "LongTakeWindowScheduler: global_path", "Right: Anchor Attention",
        "Right: Noise Reinit", "Right: Noise Reinit for KSampler",
    ]  # fmt: skip
    assert told[0][1:] == ("static", "random_shift") and told[3][1] == NOT_THERE
    before = copy.deepcopy(graph)
    found(graph, ("13", "12"))
    assert graph == before

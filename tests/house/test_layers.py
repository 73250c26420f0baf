"""The order of the house: who may import whom, how long a file may be, and that a paper's algorithm can be read.

Every rule is first shown on a wrong example: it can fail.
"""

import importlib.util
import re

import pytest
from support import sources
from support.paths import COMFYUI_PATH, ROOT

COMFYUI = (
    "comfy", "comfy_extras", "comfy_api", "comfy_execution", "comfy_config", "folder_paths", "nodes", "node_helpers",
    "latent_preview", "server", "execution",
)  # fmt: skip
PAPERS = ("glc", "syncos")
# The adapters of each method; all others belong to the engine.
METHODS = {
    "attention": ("attention",), "shared attention": ("shared_attention",), "vmcr": ("vmcr",), "syncos": ("syncos",),
    "noise": ("noise",), "fifo": ("fifo", "frame_levels"), "mevg": ("mevg",),
}  # fmt: skip
ENTRIES = ("start.py", "benchmarks/__main__.py")  # run as scripts: there is no package yet


@pytest.fixture(scope="module")
def pack():
    """The pack without its tests."""
    return {path: text for path, text in sources.read().items() if not path.startswith("tests/")}


def of_samplers(*names):
    return [f"longtake.samplers.{name}" for name in names]


def of_pack(*names):
    return [f"longtake.{name}" for name in names]


def of_adapters(*names):
    return [f"longtake.samplers.adapters.{name}" for name in names]


OF_METHODS = of_adapters(*(name for names in METHODS.values() for name in names))

# what: (modules below these, but these; never import anything below these)
RULES = {
    "methods know no ComfyUI": (
        of_pack("samplers"), of_samplers("adapters"), [*COMFYUI, *of_samplers("adapters"), *of_pack("nodes")],
    ),
    "windows know no paper": (
        of_samplers("windows", "fusion", "cost", "seeds", "chart"), [], of_samplers(*PAPERS, "prompts", "adapters"),
    ),
    "the engine knows no method": (
        of_samplers("adapters"), OF_METHODS, [*OF_METHODS, *of_samplers(*PAPERS)],
    ),
    "samplers look up to no room": (of_pack("samplers"), [], of_pack("nodes", "backbone", "benchmarks", "tools")),
    "backbones look up to no room": (of_pack("backbone"), [], of_pack("nodes", "benchmarks", "tools")),
    "nodes look up to no room": (of_pack("nodes"), [], of_pack("benchmarks", "tools")),
    "nothing needs the tests": (of_pack(*sources.ROOMS), [], ["tests", "support", "conftest", "pytest"]),
}  # fmt: skip
for paper in (*PAPERS, "prompts"):
    rest = [name for name in (*PAPERS, "prompts") if name != paper]
    RULES[f"{paper} alone"] = (of_samplers(paper), [], of_samplers(*rest, "adapters"))
for method, own in METHODS.items():
    rest = [name for name in OF_METHODS if name not in of_adapters(*own)]
    RULES[f"the adapter of {method} alone"] = (of_adapters(*own), [], rest)

# A line that breaks each rule, and where it would stand.
BREACHES = {
    "methods know no ComfyUI": ("samplers/glc/paths.py", "from comfy import model_management"),
    "windows know no paper": ("samplers/chart.py", "from .glc.paths import gamma"),
    "the engine knows no method": ("samplers/adapters/engine.py", "from . import attention, progress"),
    "samplers look up to no room": ("samplers/adapters/progress.py", "from ...nodes import windows"),
    "backbones look up to no room": ("backbone/demo/loader.py", "from ...nodes.windows import chart"),
    "nodes look up to no room": ("nodes/windows.py", "from ..tools import headless"),
    "nothing needs the tests": ("tools/headless.py", "from support import zoo"),
    "glc alone": ("samplers/glc/paths.py", "from ..syncos import csd"),
    "syncos alone": ("samplers/syncos/csd.py", "from ..prompts.timeline import Span"),
    "prompts alone": ("samplers/prompts/timeline.py", "from ..adapters import conds"),
    "the adapter of attention alone": ("samplers/adapters/attention.py", "from . import vmcr"),
    "the adapter of shared attention alone": ("samplers/adapters/shared_attention.py", "from .attention import own"),
    "the adapter of vmcr alone": ("samplers/adapters/vmcr.py", "from .noise import KEY"),
    "the adapter of syncos alone": ("samplers/adapters/syncos.py", "from ..adapters.attention import OPTION"),
    "the adapter of fifo alone": ("samplers/adapters/frame_levels.py", "from .syncos import finite"),
    "the adapter of mevg alone": ("samplers/adapters/mevg.py", "from .frame_levels import by_frame"),
    "the adapter of noise alone": ("samplers/adapters/noise.py", "from longtake.samplers.adapters import syncos"),
}


@pytest.mark.parametrize("rule", RULES)
def test_who_may_import_whom(pack, rule):
    of, but, never = RULES[rule]
    assert any(sources.inside(sources.module_name(path), *of) for path in pack)
    assert sources.crossings(pack, of, never, but) == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("written", ["{}", "def later():\n    if True:\n        {}"])
def test_each_of_these_rules_can_fail(pack, rule, written):
    of, but, never = RULES[rule]
    path, line = BREACHES[rule]
    (found,) = sources.crossings({**pack, path: written.format(line)}, of, never, but)[:1]
    assert found.startswith(f"{path}:{written.count(chr(10)) + 1} imports ")
    idle = "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    " + line
    assert path not in str(sources.crossings({**pack, path: idle}, of, never, but))


def test_methods_need_torch_and_einops_alone(pack):
    of, but = of_pack("samplers"), of_samplers("adapters")
    allowed = ["torch", "einops", *of_pack("samplers")]
    assert sources.strangers(pack, of, allowed, but) == []
    found = sources.strangers({"samplers/glc/x.py": "import numpy.fft, torch.fft, math"}, of, allowed, but)
    assert found == ["samplers/glc/x.py:1 imports numpy.fft"]


def test_prompts_need_the_standard_library_alone(pack):
    of = of_samplers("prompts")
    assert sources.strangers(pack, of, of) == []
    wrong = {"samplers/prompts/x.py": "import re\nimport torch\nfrom . import y\nfrom ..seeds import step_seed",
             "samplers/prompts/y.py": "", "samplers/seeds.py": ""}  # fmt: skip
    assert [line.split(" imports ")[1] for line in sources.strangers(wrong, of, of)] == [
        "torch", "longtake.samplers.seeds"]  # fmt: skip


# ---- circles -----------------------------------------------------------------------------------------------------


def test_no_circle(pack):
    assert sources.circle(pack) == []


@pytest.mark.parametrize("files", [
    {"samplers/a.py": "from . import b", "samplers/b.py": "from .a import x"},
    {"samplers/a.py": "from . import b", "samplers/b.py": "def later():\n    from .a import x"},
    {"samplers/a.py": "from . import b", "samplers/b.py": "from ..nodes import c", "nodes/c.py": "from ..samplers.a "
     "import x"},
    {"nodes/__init__.py": "from . import a", "nodes/a.py": "from . import LIST"},
    {"nodes/__init__.py": "for n in NAMES:\n    import_module(f'.{n}', 'nodes')", "nodes/a.py": "from . import LIST"},
    {"benchmarks/a.py": "import b", "benchmarks/b.py": "from longtake.benchmarks import a"},
    {"benchmarks/a.py": "import benchmarks.b", "benchmarks/b.py": "importlib.import_module('.a', 'x')"},
])  # fmt: skip
def test_circles_are_found(files):
    ring = sources.circle(files)
    assert ring[0] == ring[-1] and set(ring) == {sources.module_name(path) for path in files}


@pytest.mark.parametrize("files", [
    {"samplers/a.py": "from . import b", "samplers/b.py": "if TYPE_CHECKING:\n    from .a import x"},
    {"samplers/__init__.py": "from . import a", "samplers/a.py": "from . import b", "samplers/b.py": ""},
    {"backbone/a.py": "import nodes", "nodes/__init__.py": "from ..backbone import a"},  # ComfyUI's nodes
])  # fmt: skip
def test_what_is_no_circle_is_none(files):
    assert sources.circle(files) == []


# ---- files -------------------------------------------------------------------------------------------------------


def test_own_modules_are_imported_relatively(pack):
    assert sources.absolutes(pack, ENTRIES) == []
    wrong = {
        "nodes/a.py": "import nodes\nfrom samplers import windows\nfrom longtake.samplers import seeds\nimport nodes.b",
        "nodes/b.py": "import a\nfrom . import a\nimport math", "samplers/windows.py": "", "samplers/seeds.py": "",
        "start.py": "from tools import c", "tools/c.py": "",
    }  # fmt: skip
    found = [line.split(" imports ")[1] for line in sources.absolutes(wrong, ENTRIES)]
    names = ("samplers.windows", "samplers.seeds", "nodes.b", "nodes.a")
    assert found == [f"longtake.{name}" for name in names]


def test_files_are_short_and_ascii():
    assert sources.misshapen(sources.read()) == []
    wrong = {"a.py": "x\n" * 401, "b.py": "x\n" * 400, "c.py": "# \u03c3"}
    assert sources.misshapen(wrong) == ["a.py: 401 lines", "c.py: not ASCII"]


def test_modules_of_samplers_say_what_they_are():
    assert sources.without_docstring(sources.read("samplers")) == []
    wrong = {"samplers/a.py": "import math", "samplers/b.py": '"""Says."""', "samplers/__init__.py": "", "a/_b.py": ""}
    assert sources.without_docstring(wrong) == ["samplers/a.py", "samplers/__init__.py"]


# ---- papers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", PAPERS)
def test_each_line_of_a_papers_algorithm_names_its_function(paper):
    names, wrong = sources.algorithm(sources.read("samplers"), f"samplers/{paper}")
    assert wrong == []
    assert len(set(names)) >= 6, f"Algorithm 1 of samplers/{paper}/__init__.py: {names}"


def test_an_algorithm_without_its_functions_is_seen():
    table = '''"""A paper, line by line.

    | line | what | function |
    |---|---|---|
    | 1 | draw noise | `noise.drawn` |
    | 2 | for each step | the sampler that the user chose |
    |   | - its windows | `windows.each`, `paths.Global.windows(frames)` of `paths.py` |
    | 3 | fuse them | by hand |
    | 4 | say so | `noise.silent`, `nowhere.at_all` |
    """'''
    files = {
        "samplers/x/__init__.py": table, "samplers/x/noise.py": "def drawn(): pass\nsilent = 1",
        "samplers/x/paths.py": "class Global:\n    def windows(self): pass", "samplers/windows.py": "def each(): pass",
    }  # fmt: skip
    names, wrong = sources.algorithm(files, "samplers/x")
    assert names == ["noise.drawn", "windows.each", "paths.Global.windows", "noise.silent", "nowhere.at_all"]
    assert wrong == [
        "no `module.function`: | 3 | fuse them | by hand |",
        "`noise.silent` is no function of the pack", "`nowhere.at_all` is no function of the pack",
    ]  # fmt: skip


# ---- the tests themselves ----------------------------------------------------------------------------------------


def between_tests(files):
    found = [str(one) for one in sources.imports(files) if re.search(r"(^|\.)test_", one.name)]
    return [line for line in found if "aiohttp.test_utils" not in line]


def test_no_test_module_imports_another():
    tests = sources.read("tests")
    assert "tests/house/test_layers.py" in tests and between_tests(tests) == []
    wrong = {"tests/a/test_x.py": "import test_y\nfrom test_z import run", "tests/test_y.py": "from .a.test_x import w"}
    assert len(between_tests(wrong)) == 3


def test_no_folder_of_the_tests_hides_a_module_of_comfyui():
    assert importlib.util.find_spec("nodes").origin == str(COMFYUI_PATH / "nodes.py")
    names = {path.stem for path in (ROOT / "tests").iterdir() if path.suffix in ("", ".py")} - {"support", "conftest"}
    for spec in map(importlib.util.find_spec, names):
        assert spec is None or spec.origin is None or (ROOT / "tests") not in (COMFYUI_PATH / spec.origin).parents

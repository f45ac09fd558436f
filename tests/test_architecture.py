"""Does the house still have the plan that CONTRIBUTING.md tells?"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "realm"
# The order in which data passes through; a room may use its own stage and those before it.
STAGES = [
    *(
        "errors",
        "artifact",
        "config",
        "json_lines",
        "metric_log",
        "progress",
        "stopwatch",
        "memory",
        "children",
        "kernels",
        "machine",
    ),
    *("corpus", "spans", "examples", "models", "index", "retrieval", "training", "pretraining"),
    *("openqa", "evaluation", "experiment", "run_folder", "data_stages", "warm_stages"),
    *(
        "pretrain_stages",
        "stages",
        "rates",
        "workload",
        "costs",
        "plan",
        "living",
        "scoring",
        "tables",
        "swap",
        "importing",
    ),
    *("exporting", "shipped", "demo", "serving", "cli"),
]
BANNED_NAMES = {"utils", "common", "base", "core", "misc", "helpers", "types", "tools"}
# Nothing that runs code when it is read: names of modules, and of calls with their module.
PICKLING_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
PICKLING_CALLS = {"torch.load", "torch.save"}
# Released weights are read in the one way that admits tensors alone.
READS_TENSORS_ONLY = ("models/released.py", "torch.load", "weights_only=True")
# What a launcher sets, and where the data lies.
READS_ENVIRONMENT = {"training/distributed.py", "experiment.py"}
BANNER = re.compile(r"\s*#.*([-=*#~_])\1{3}")
LONGEST_FUNCTION = 50
LONGEST_FILE = 330
FILES = sorted(SOURCE.rglob("*.py"))
ROOMS = [file for file in FILES if file.name != "__init__.py"]


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)


def imported_by(file: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in the file it stands."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where things come from"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(file: Path) -> set[str]:
    rooms = {name_of(room) for room in ROOMS}
    return {name for name in imported_by(file) if name in rooms} - {name_of(file)}


def stage_of(module: str) -> int:
    return STAGES.index(module.split(".")[1])


def in_source(files: list[Path]) -> list[str]:
    return [str(file.relative_to(SOURCE)) for file in files]


room = pytest.mark.parametrize("file", ROOMS, ids=in_source(ROOMS))


def test_every_room_has_its_place_in_the_order() -> None:
    assert {name_of(file).split(".")[1] for file in ROOMS} <= set(STAGES)


@room
def test_imports_point_upstream(file: Path) -> None:
    here = stage_of(name_of(file))
    assert [name for name in own_imports(file) if stage_of(name) > here] == []


def test_no_imports_go_round_in_circles() -> None:
    graph = {name_of(file): own_imports(file) for file in ROOMS}
    assert len(list(TopologicalSorter(graph).static_order())) == len(ROOMS)


def test_package_files_are_empty() -> None:
    assert [str(f) for f in FILES if f.name == "__init__.py" and f.read_text().strip()] == []


def test_every_folder_is_a_package() -> None:
    folders = {file.parent for file in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_names_say_what_is_inside() -> None:
    names = {part for file in ROOMS for part in name_of(file).split(".")}
    assert names & BANNED_NAMES == set()


@room
def test_functions_are_short(file: Path) -> None:
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


@room
def test_files_are_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_no_comment_is_a_banner() -> None:
    files = [*ROOMS, *Path(__file__).parent.rglob("*.py")]
    assert [file for file in files if any(map(BANNER.match, file.read_text().splitlines()))] == []


@room
def test_the_first_line_says_what_the_file_answers(file: Path) -> None:
    documentation = ast.get_docstring(tree_of(file))
    assert documentation, "a module docstring is missing"
    assert documentation.splitlines()[0].endswith(("?", "."))


@room
def test_nothing_unpickles(file: Path) -> None:
    modules = {name.split(".")[0] for name in imported_by(file)}
    assert modules & PICKLING_MODULES == set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call):
            keywords = {ast.unparse(keyword) for keyword in node.keywords}
            place, call, keyword = READS_TENSORS_ONLY
            if file != SOURCE / place or keyword not in keywords or ast.unparse(node.func) != call:
                assert ast.unparse(node.func) not in PICKLING_CALLS
            risky = {"allow_pickle", "trust_remote_code"} & {k.arg for k in node.keywords}
            assert not risky, f"line {node.lineno}: {risky}"


@room
def test_only_the_command_line_prints(file: Path) -> None:
    if stage_of(name_of(file)) == STAGES.index("cli"):
        return
    calls = [ast.unparse(n.func) for n in ast.walk(tree_of(file)) if isinstance(n, ast.Call)]
    assert {"print", "sys.stdout.write", "sys.stderr.write"} & set(calls) == set()


def test_settings_do_not_come_from_the_environment() -> None:
    readers = {
        file.relative_to(SOURCE).as_posix()
        for file in ROOMS
        if stage_of(name_of(file)) < STAGES.index("cli")
        and any(call in ast.unparse(tree_of(file)) for call in ("os.environ.get", "os.getenv"))
    }
    assert readers == READS_ENVIRONMENT


def run_python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter inside an empty folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_training_does_without_search_and_server_libraries(tmp_path: Path) -> None:
    code = (
        "import sys, realm.training.loop, realm.pretraining.objective\n"
        "print([n for n in ('faiss', 'bm25s', 'fastapi', 'datasets') if n in sys.modules])"
    )
    assert run_python(code, tmp_path) == "[]\n"


IMPORT_EVERYTHING = """
import importlib, json, logging, os, signal, sys, threading
import realm
print(json.dumps(sorted(n for n in sys.modules if n.startswith("realm."))))
import torch, transformers, pyarrow, typer, pydantic  # theirs is not ours

def state():
    return (
        logging.root.level, list(logging.root.handlers), threading.active_count(), dict(os.environ),
        torch.get_num_threads(), torch.get_default_dtype(), torch.initial_seed(), sys.argv[:],
        signal.getsignal(signal.SIGINT), torch.cuda.is_initialized(), os.getcwd(),
    )

before = state()
for name in sys.stdin.read().split():
    importlib.import_module(name)
    assert state() == before, name
"""


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_EVERYTHING],
        cwd=tmp_path, input="\n".join(map(name_of, ROOMS)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == []  # `import realm` alone loads no room
    assert list(tmp_path.iterdir()) == []

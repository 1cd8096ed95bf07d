"""The arrows between the parts, and what no file may call, read from the syntax trees."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.paths import REPOSITORY

PACKAGE = REPOSITORY / "ddrl_sched"
FILES = sorted(PACKAGE.rglob("*.py"))

HYDRA = ("hydra", "omegaconf")
OF_HYDRA = ("launch", "compose", "overrides", "checked_files", "composing_errors", "stated_values")
KNOW_HYDRA = [f"ddrl_sched.{name}" for name in OF_HYDRA]
ROOMS = ("agents", "edge", "schedulers", "run", "jobs", "launchers", "report", "environments")
STANDS_ON = {  # room: the rooms that it may import, beside the ground floor
    "edge": (),
    "agents": (),
    "schedulers": ("agents", "edge"),
    "run": ("schedulers", "agents", "edge"),
    "jobs": ("run", "schedulers", "agents", "edge"),
    "launchers": ("jobs",),
    "report": ("jobs", "run"),
    "environments": ("jobs", "run", "schedulers", "edge"),
}
COMPOSES = {"environments": ("ddrl_sched.compose", "ddrl_sched.overrides")}  # rooms that take words of a command line
LIBRARIES = {"edge": ("torch",), "report": ("torch", "numba"), "launchers": ("torch", "numba")}  # not in these rooms
ABOVE_ALL = (  # nobody below imports them
    "ddrl_sched.__main__",
    "ddrl_sched.cli",
    "ddrl_sched.launch",
    "ddrl_sched.compose",
    "ddrl_sched.dry_run",
    "ddrl_sched.overrides",
    "ddrl_sched.checked_files",
    "ddrl_sched.composing_errors",
    "ddrl_sched.stated_values",
    "ddrl_sched.study",
)
MOST_POSITIONAL, MOST_ANY = 5, 0.05
UNSAFE_IMPORTS = ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal")
UNSAFE_CALLS = (
    "eval",
    "exec",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
    "pd.read_pickle",
)


def imports(tree: ast.AST, module: str) -> set[str]:
    """Full names of all that `module` (a dotted name) imports anywhere; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            names.add(origin)
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def breaches(imported: set[str], forbidden: tuple[str, ...]) -> list[str]:
    """Those imported modules that are a forbidden one or lie inside it."""
    return sorted(name for name in imported for bad in forbidden if name == bad or name.startswith(f"{bad}."))


def unsafe_calls(tree: ast.AST) -> list[str]:
    """Calls that run code hidden in data."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [name for name in (ast.unparse(call.func) for call in calls) if name in UNSAFE_CALLS]
    for call in calls:
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if ast.unparse(call.func) == "torch.load" and keywords.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if keywords.get("allow_pickle") == "True":
            found.append("allow_pickle=True")
    return found


def file_writes(tree: ast.AST) -> list[str]:
    """Calls that write or rename a file by themselves."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner, _, name = ast.unparse(call.func).rpartition(".")
        words = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
        modes = [word for word in words if isinstance(word, str) and re.fullmatch(r"[wax]b?\+?|r\+b?", word)]
        if name in ("open", "fdopen") and modes:
            found.append(f"open(.., {modes[0]!r})")
        elif name in ("to_parquet", "savetxt", "savez", "savez_compressed", "save_file", "write_text"):
            in_memory = bool(call.args) and ast.unparse(call.args[0]) == "archive"  # an io.BytesIO
            found += [] if in_memory else [name]
        elif name == "write_bytes" and owner not in ("", "records", "saving"):
            found.append(f"{owner}.write_bytes")
        elif owner == "os" and name in ("replace", "rename", "link"):
            found.append(f"os.{name}")
    return found


def parsed(file: Path) -> tuple[ast.AST, str]:
    """Syntax tree and dotted name of a file of the package."""
    name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ast.parse(file.read_text(encoding="utf-8")), name


def rules(name: str) -> tuple[str, ...]:
    """What the module `name` may not import."""
    part = name.split(".")[1]
    hydra = () if name in KNOW_HYDRA else HYDRA
    if part not in STANDS_ON:
        return hydra + UNSAFE_IMPORTS + ("ddrl_sched.environments",)
    others = tuple(f"ddrl_sched.{room}" for room in ROOMS if room != part and room not in STANDS_ON[part])
    above = tuple(module for module in ABOVE_ALL if module not in COMPOSES.get(part, ()))
    return others + LIBRARIES.get(part, ()) + hydra + above + UNSAFE_IMPORTS


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def has_any(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether an annotation of its arguments or its result contains Any."""
    args = function.args
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    annotations = [ast.unparse(one) for one in [*(arg.annotation for arg in given), function.returns] if one]
    return any(re.search(r"\bAny\b", text) for text in annotations)


def n_positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments that can be given by their place; 0 for kernels, which numba calls, and commands, which typer does."""
    if any(re.search("jit|app|callback", ast.unparse(decorator)) for decorator in function.decorator_list):
        return 0
    names = [arg.arg for arg in [*function.args.posonlyargs, *function.args.args]]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Names along one circle of a graph; empty if it has none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := follow(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := follow(name, []))), [])


def test_no_file_imports_itself_by_way_of_others():
    trees = {name: tree for tree, name in map(parsed, FILES)}
    trees = {name: tree for name, tree in trees.items() if not name.endswith("__init__")}
    graph = {name: imports(tree, name) & trees.keys() - {name} for name, tree in trees.items()}
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]


def test_signatures_say_what_they_take():
    """Any is for the edge of the program: parsed yaml and JSON, untyped libraries."""
    every = [function for file in FILES for function in functions(parsed(file)[0])]
    share = sum(map(has_any, every)) / len(every)
    assert share < MOST_ANY
    (one,) = functions(ast.parse("def f(x: int, *y: dict[str, Any]) -> None: ..."))
    assert has_any(one)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_function_takes_many_arguments_by_their_place(file):
    many = [function.name for function in functions(parsed(file)[0]) if n_positional(function) > MOST_POSITIONAL]
    assert many == []


def test_places_are_counted():
    (one,) = functions(ast.parse("def f(self, a, b, /, c, *, d): ..."))
    assert n_positional(one) == 3


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_every_module_imports_only_what_its_place_allows(file):
    tree, name = parsed(file)
    assert breaches(imports(tree, name), rules(name)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_module_runs_code_from_data(file):
    assert unsafe_calls(parsed(file)[0]) == []


def test_cli_imports_only_typer_and_the_standard_library_at_the_top():
    tree, name = parsed(PACKAGE / "cli.py")
    top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    ours = {"ddrl_sched", "ddrl_sched.completion", "ddrl_sched.stopping"}
    assert {module.split(".")[0] for module in imports(top, name) - ours} <= {"typer", *sys.stdlib_module_names}
    for file in ("stopping", "completion", "conf_folder"):
        tree, name = parsed(PACKAGE / f"{file}.py")
        beside = {"typer", "yaml", "ddrl_sched"} if file == "completion" else set()
        assert {module.split(".")[0] for module in imports(tree, name)} <= beside | set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_only_one_module_writes_files(file):
    """What is published goes through saving.write_bytes."""
    allowed = {"saving.py": {"open(.., 'wb')", "os.replace"}}
    assert set(file_writes(parsed(file)[0])) <= allowed.get(file.name, set())


@pytest.mark.parametrize(
    ("line", "module", "caught"),
    [
        ("import torch.nn", "ddrl_sched.edge.x", ["torch.nn"]),
        ("from ddrl_sched import run", "ddrl_sched.edge.x", ["ddrl_sched.run"]),
        ("def f():\n    from ..edge import types", "ddrl_sched.agents.x", ["ddrl_sched.edge", "ddrl_sched.edge.types"]),
        ("import omegaconf", "ddrl_sched.run.x", ["omegaconf"]),
        ("import hydra", "ddrl_sched.launch", []),
        ("import torchish, hydrant", "ddrl_sched.edge.x", []),
        ("import ddrl_sched.launch", "ddrl_sched.run.x", ["ddrl_sched.launch"]),
        ("from ddrl_sched.jobs import records", "ddrl_sched.run.x", ["ddrl_sched.jobs", "ddrl_sched.jobs.records"]),
        ("from ddrl_sched.run import inputs", "ddrl_sched.report.x", []),
        ("import pickle", "ddrl_sched.cli", ["pickle"]),
        ("import ddrl_sched.environments", "ddrl_sched.api", ["ddrl_sched.environments"]),
        ("from ddrl_sched.compose import compose", "ddrl_sched.environments.x", []),
    ],
)
def test_the_rules_catch_a_breach(line, module, caught):
    assert breaches(imports(ast.parse(line), module), rules(module)) == caught


@pytest.mark.parametrize(
    ("line", "n_found"),
    [
        ("eval('1')", 1),
        ("model.eval()", 0),
        ("yaml.load(f)", 1),
        ("yaml.safe_load(f)", 0),
        ("torch.load(f)", 1),
        ("torch.load(f, weights_only=True)", 0),
        ("np.load(f, allow_pickle=True)", 1),
    ],
)
def test_unsafe_calls_are_found(line, n_found):
    assert len(unsafe_calls(ast.parse(line))) == n_found


@pytest.mark.parametrize(
    ("line", "n_found"),
    [
        ("open(p)", 0),
        ("open(p, 'w')", 1),
        ("p.open(mode='ab')", 1),
        ("p.write_bytes(b'')", 1),
        ("records.write_bytes(p, b'')", 0),
        ("frame.to_parquet(p)", 1),
        ("np.savez(p)", 1),
        ("os.rename(a, b)", 1),
    ],
)
def test_writes_are_found(line, n_found):
    assert len(file_writes(ast.parse(line))) == n_found


FLOORS = {"torch": "2.10", "pyarrow": "23.0.1", "hydra-core": "1.3.8"}  # older ones run code that data hides


@pytest.mark.parametrize("package", FLOORS)
def test_no_version_with_a_known_hole_may_be_installed(package):
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (wanted,) = [word for word in project["project"]["dependencies"] if re.match(rf"{package}\b(?!-)", word)]
    lowest = re.search(r">=([\d.]+)", wanted)[1]
    assert _version(lowest) >= _version(FLOORS[package])
    pinned = re.search(rf"^{package}==([\d.]+)", (PACKAGE.parent / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert _version(pinned) >= _version(lowest)


def _version(text):
    return [int(part) for part in text.split(".")]


def test_the_rules_for_safe_code_are_on():
    lint = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert [rule for rule in lint["ignore"] if rule.startswith("S")] == ["S101"]  # assert
    assert not any("noqa: S" in file.read_text(encoding="utf-8") for file in FILES)

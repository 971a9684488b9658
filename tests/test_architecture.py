"""Rules of structure, each in a few lines."""

import ast
import collections
import functools
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from datamodels.run.designs import KINDS
from datamodels.run.estimators import ESTIMATORS, SOLVERS

ROOT = Path(__file__).parent.parent
CORE = ROOT / "shared" / "datamodels"
SERVICES = sorted(p for p in (ROOT / "services").iterdir() if p.is_dir() and (p / "__init__.py").exists())
SOURCES = [p for folder in ("shared", "services") for p in (ROOT / folder).rglob("*.py") if "v1" not in p.parts]
TESTS = list((ROOT / "tests").rglob("*.py"))

ORDER = [
    *(
        "extras",
        "screen",
        "errors",
        "words",
        "labels",
        "inputs",
        "outputs",
        "spans",
        "environment",
        "settings",
        "machine",
        "telemetry",
        "storage",
    ),
    *("run.designs", "run", "display", "aggregate"),
    *("train", "train.gradients", "train.workloads", "train.images", "train.torch"),
    *(
        "fit.kernels",
        "fit.data",
        "fit.pairs",
        "fit.contract",
        "fit.lasso",
        "fit.residual",
        "fit.estimators",
        "fit",
        "fit.job",
    ),
    *("analyze.quality", "analyze.what_if", "analyze.patterns", "analyze"),
    *("query", "baselines", "baselines.gradients", "exchange", "lifecycle", "explore.models", "explore"),
    *("rpc", "rpc.clients"),
    *("runners", "runners.cluster", "plan", "report"),
    "api",
    *(
        "services",
        "services.sampler",
        "services.trainer",
        "services.aggregator",
        "services.fitter",
        "services.query",
        "services.explorer",
    ),
    "testing",
    *("cli.common", "cli.analyses", "cli.runs", "cli.upkeep", "cli"),
]
"""All packages and top modules of datamodels. Each may import only those before it."""
SHELL = {"rpc", "v1", "report", "cli", "runners", "plan", "services", "testing", ""}
"""Packages that may know gRPC, and `datamodels` itself, which offers the client; all others are the core."""
HEAVY = ("torch", "cupy", "ffcv", "kubernetes", "boto3", "sklearn", "numba")
HEAVY_AT_HOME = {
    "datamodels.storage.s3": "boto3",
    "datamodels.run.designs.compiled": "numba",
    "datamodels.fit.kernels.coordinate_descent": "numba",
    "datamodels.fit.kernels.bitwise": "numba",
    "datamodels.fit.kernels.leave_out_descent": "numba",
    "datamodels.fit.kernels.lookup": "numba",
    "datamodels.fit.kernels.membership": "numba",
    "datamodels.fit.kernels.panels": "numba",
    "datamodels.testing.reference": "numba",
    "datamodels.train.gradients.autograd": "torch",
    "datamodels.train.gradients.kinks": "torch",
    "datamodels.train.gradients.layers": "torch",
    "datamodels.train.gradients.metagradients": "torch",
    "datamodels.train.images.gradients": "torch",
    "datamodels.train.workloads.sgd": "torch",
    "datamodels.train.workloads.mlp": "torch",
    "datamodels.train.workloads.replay": "torch",
    "datamodels.train.workloads.cnn": "torch",
    "datamodels.train.images.augment": "torch",
    "datamodels.train.images.stream": "torch",
    "datamodels.train.images.optimisers": "torch",
    "datamodels.train.images.precision": "torch",
    "datamodels.train.images.trainer": "torch",
    "datamodels.train.images.networks": "torch",
    "datamodels.train.images.graph_step": "torch",
    "datamodels.train.torch": "torch",
    "datamodels.train.torch.descent": "torch",
    "datamodels.train.torch.examples": "torch",
    "datamodels.train.torch.lightning": "torch",
    "datamodels.train.torch.optimisers": "torch",
    "datamodels.train.torch.options": "torch",
    "datamodels.train.torch.probe": "torch",
    "datamodels.train.torch.problem": "torch",
    "datamodels.train.torch.recipe": "torch",
    "datamodels.train.torch.replay": "torch",
    "datamodels.train.torch.tensors": "torch",
    "datamodels.train.torch.trainer": "torch",
    "datamodels.train.torch.weights": "torch",
}
"""Modules that nothing imports but their users, with the heavy package that each is about."""


def module_of(path: Path) -> str:
    base = ROOT / "shared" if path.is_relative_to(CORE) else ROOT
    name = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
    return name if path.is_relative_to(CORE) else f"datamodels.{name}"


def package_of(module: str) -> str:
    """The longest name in ORDER that the module, without `datamodels`, begins with; empty if there is none."""
    parts = module.split(".")[1:]
    names = (".".join(parts[:k]) for k in range(len(parts), 0, -1))
    return next((name for name in names if name in ORDER), "")


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports(path: Path) -> set[str]:
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            folder = ".".join(module_of(path.parent / "__init__.py").split(".")[: 1 - node.level or None])
            module = ".".join(filter(None, [folder if node.level else "", node.module]))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def top(module: str) -> str:
    """The part of a module's name below datamodels."""
    return [*module.split("."), ""][1] if module.startswith("datamodels.") else ""


def literals(path: Path) -> set[str]:
    """String literals that are no docstrings."""
    statements = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
    constants = (node for node in nodes(path) if isinstance(node, ast.Constant) and id(node) not in statements)
    return {node.value for node in constants if isinstance(node.value, str)}


def test_a_package_imports_none_that_comes_later():
    place = {package_of(name): ORDER.index(package_of(name) or "cli") for name in map(module_of, SOURCES)}
    later = {
        (module_of(path), name)
        for path in SOURCES
        for name in imports(path)
        if package_of(name) and place[package_of(name)] > place[package_of(module_of(path))]
    }
    assert not later


def test_no_modules_import_each_other_in_a_circle():
    """Not in functions either. A package whose modules are named is not imported for what is in itself."""
    modules = set(map(module_of, SOURCES))
    graph = {}
    for path in SOURCES:
        found = imports(path) & modules - {module_of(path)}
        graph[module_of(path)] = {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_every_package_has_its_place_in_the_order():
    folders = {p.parent for p in SOURCES if p.name != "__init__.py"} | {
        p.parent for p in SOURCES if p.parent.name == "services"
    }
    packages = {module_of(p / "__init__.py").removeprefix("datamodels").removeprefix(".") for p in folders}
    modules = {p.stem for p in CORE.glob("*.py") if not p.stem.startswith("__")}
    assert sorted(ORDER) == sorted(packages - {""} | modules)


def test_the_page_on_architecture_shows_every_package_in_order():
    """A package stands in one row of the diagram, and imports none from a row above."""
    rows = (ROOT / "docs" / "architecture.md").read_text().split("```")[1].splitlines()
    # The text beside a row may have a package's name as a word, but only above that package.
    row = {re.sub(r"^\.", "services.", name): i for i, line in enumerate(rows) for name in re.findall(r"[\w.]+", line)}
    assert not set(ORDER) - row.keys() - {"services"}
    row["services"] = row["services.sampler"]
    found = {(package_of(module_of(path)), package_of(name)) for path in SOURCES for name in imports(path)}
    assert not [(one, other) for one, other in found if one and other and row[other] < row[one]]


def test_no_folder_is_crowded():
    modules = [p for p in SOURCES if p.name != "__init__.py"]
    modules += [p for p in (ROOT / "tests").rglob("*.py") if p.name != "conftest.py"]
    folders = collections.Counter(p.parent for p in modules)
    assert {str(p): n for p, n in folders.items() if n > 12} == {}


def test_the_core_knows_no_grpc_and_no_service():
    found = {(module_of(p), name) for p in SOURCES if p.is_relative_to(CORE) for name in imports(p)}
    assert not {(m, name) for m, name in found if top(name) == "services" and top(m) != "testing"}
    wire = {(m, n) for m, n in found if n.split(".")[0] in ("grpc", "grpc_status") or top(n) in ("rpc", "v1")}
    assert not {(m, name) for m, name in wire if top(m) not in SHELL}


@pytest.mark.parametrize("path", sorted((CORE / "report").glob("*.py")), ids=module_of)
def test_a_report_only_renders(path):
    """It reads nothing, and of the analyses it knows types and constants, but no function."""
    found = imports(path)
    assert not {m for m in found if top(m) in {"storage", "aggregate", "query"}}
    assert not {m for m in found if m.startswith(("datamodels.fit.job.fits", "datamodels.run.designs"))}
    analyses = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [a.name for node in analyses if node.module.startswith("datamodels.analyze") for a in node.names]
    assert not [name for name in names if not name[0].isupper()]


def test_no_heavy_package_is_imported_before_it_is_used():
    modules = [module_of(p) for p in SOURCES if p.name != "__main__.py"]
    light = [m for m in modules if m not in HEAVY_AT_HOME]
    script = (
        f"import importlib, sys\nfor m in {light!r}:\n importlib.import_module(m)\n"
        f" bad = [h for h in {HEAVY!r} if h in sys.modules]\n assert not bad, (m, bad)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "home, pattern",
    [
        ("environment.py", r"os\.environ|getenv"),
        ("machine.py", r"cpu_count|sched_getaffinity|/sys/fs/cgroup"),
        ("storage/schema.py", r"pa\.schema\("),
    ],
)
def test_each_fact_has_one_place(home, pattern):
    places = [module_of(p) for p in SOURCES if re.search(pattern, p.read_text()) and p != CORE / home]
    assert not places


def test_nothing_is_asked_for_by_the_name_that_a_spec_gives_it():
    """What tells estimators, solvers and designs apart is in their tables."""
    asked = {
        (module_of(path), node.value)
        for path in SOURCES
        for comparison in nodes(path)
        if isinstance(comparison, ast.Compare)
        for node in ast.walk(comparison)
        if isinstance(node, ast.Constant)
    }
    assert not {(module, value) for module, value in asked if value in {*ESTIMATORS, *SOLVERS, *KINDS}}


def test_only_keys_spells_an_object_key():
    pattern = re.compile(r"^(runs|aggregate|fit|query|upkeep|preflight)/")
    places = {module_of(p) for p in SOURCES if any(pattern.match(text) for text in literals(p))}
    assert places == {"datamodels.storage.keys"}


def test_generated_code_is_in_step_with_the_protos(tmp_path):
    protos = sorted((ROOT / "proto").rglob("*.proto"))
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, *map(str, protos)]
    subprocess.run(command, check=True)
    fresh = {p.name: p.read_text() for p in (tmp_path / "datamodels" / "v1").iterdir()}
    committed = {p.name: p.read_text() for p in (CORE / "v1").glob("*_pb2*.py*")}
    assert fresh == committed, "run `make proto` and commit what it makes"


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_a_service_is_a_thin_shell_with_a_readme(service):
    assert {"__main__.py", "service.py", "README.md"} <= {p.name for p in service.iterdir()}
    lines = sum(len((service / name).read_text().splitlines()) for name in ("__main__.py", "service.py"))
    assert lines < 350


def test_metric_names_follow_the_convention():
    code = "".join(p.read_text() for p in SOURCES)
    names = set(re.findall(r"(?:Counter|Gauge|Histogram)\(\s*\"(\w+)\"", code))
    ours = {n for n in names if n.startswith("datamodels_")}
    assert ours and all(n.startswith(("datamodels_", "grpc_server_")) for n in names)
    assert {n.split("_")[1] for n in ours} <= {
        "run",
        "sample",
        "train",
        "aggregate",
        "fit",
        "query",
        "explorer",
        "store",
    }


def test_a_module_is_of_a_size_that_can_be_read():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES + TESTS}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=~! ]", d)[0].lower() for d in direct} - {project["name"]}
    pins = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert not names - pins

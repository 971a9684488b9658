"""docs/reference says what the code says: no row is missing, none is stale."""

import ast
import dataclasses
import functools
import re
from pathlib import Path

import pytest

from datamodels import errors, settings
from datamodels.cli.main import main
from datamodels.environment import Settings
from datamodels.errors import DatamodelsError, ExitCode
from datamodels.fit.solve import BLOCK_BYTES, BLOCK_TARGETS, FEWEST_TARGETS
from datamodels.run.specs import RunSpec
from datamodels.settings import FitterSettings
from datamodels.v1 import aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2, types_pb2
from docs import generate
from docs.generate.settings import readers
from docs.generate.source import texts

ROOT = generate.ROOT
SERVICES = sorted(p for p in (ROOT / "services").iterdir() if (p / "__main__.py").exists())
STAGES = {"sampler": "sample", "trainer": "train", "aggregator": "aggregate", "fitter": "fit", "query": "query"}
STAGES |= {"explorer": "explorer"}
SOURCES = [p for folder in ("shared", "services") for p in (ROOT / folder).rglob("*.py")]
PROTOS = [aggregator_pb2, fitter_pb2, query_pb2, sampler_pb2, types_pb2]


@functools.cache
def code():
    return "".join(path.read_text() for path in SOURCES)


def committed(page):
    return (generate.FOLDER / page).read_text()


def headings(page):
    return re.findall(r"^## (.*)$", committed(page), re.MULTILINE)


def cells(page, heading=""):
    """First cell of every row of a page, or of one section of it."""
    text = committed(page)
    if heading:
        text = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)


def rows(page, heading=""):
    return {cell.strip("`") for cell in cells(page, heading)}


def test_the_committed_pages_are_those_of_the_code():
    fresh = generate.pages()
    assert {p.name for p in generate.FOLDER.iterdir()} == set(fresh)
    for name, text in fresh.items():
        assert committed(name) == text, "run `make reference` and commit what it writes"


@pytest.mark.parametrize("page", sorted(p.name for p in generate.FOLDER.iterdir()))
def test_no_row_lacks_its_meaning(page):
    """Cells of other columns may be empty: a setting without a default, a metric without labels."""
    lines = [re.split(r"(?<!\\\\)\|", line)[1:-1] for line in committed(page).splitlines() if line.startswith("| ")]
    assert not [cells for cells in lines if not cells[-1].strip()]


def groups():
    return [c for c in vars(settings).values() if isinstance(c, type) and issubclass(c, Settings) and c is not Settings]


def test_every_setting_has_a_row():
    assert rows("settings.md") == {variable for group in groups() for variable in group().environ()}


@pytest.mark.parametrize("group", groups())
def test_every_setting_says_what_it_means(group):
    assert set(texts(group)) == {field.name for field in dataclasses.fields(group)}


def test_the_numbers_in_the_text_of_block_are_those_of_the_fit():
    named = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", texts(FitterSettings)["block"])}
    assert named == {0, *BLOCK_TARGETS.values(), FEWEST_TARGETS, BLOCK_BYTES // 2**30}


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_the_reference_has_the_settings_and_metrics_of_a_service_and_its_readme_links_to_them(service):
    named = set(re.findall(r"\b(\w+Settings)\.load\(", "".join(p.read_text() for p in service.glob("*.py"))))
    named |= {"ServeSettings", "TelemetrySettings"}
    assert named <= readers()[service.name]
    assert {v for name in named for v in getattr(settings, name)().environ()} <= rows("settings.md")

    metrics = set(re.findall(rf'"(datamodels_{STAGES[service.name]}_\w+)"', code()))
    assert metrics, "a service without metrics"
    assert rows("metrics.md", service.name) == metrics

    links = re.findall(r"\]\((?:\.\./)*docs/reference/(\w+\.md)", (service / "README.md").read_text())
    assert {"settings.md", "metrics.md", "errors.md"} <= set(links)


def test_a_process_reads_what_the_functions_that_it_imports_read():
    read = readers()
    assert read["sampler"] == {"ServeSettings", "AuthSettings", "TelemetrySettings"}
    assert "AuthSettings" not in read["trainer"]
    assert {"ClusterSettings", "ClientSettings"} <= read["driver"]
    assert "StoreSettings" in read["command `datamodels`"]


def test_every_metric_has_a_row():
    calls = (node for p in SOURCES for node in ast.walk(ast.parse(p.read_text())) if isinstance(node, ast.Call))
    made = (c for c in calls if getattr(c.func, "id", "") in ("Counter", "Gauge", "Histogram", "Summary", "Info"))
    names = {c.args[0].value for c in made if c.args and isinstance(c.args[0], ast.Constant)}
    assert rows("metrics.md") == names


def test_every_error_and_exit_code_has_a_row():
    kinds = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, DatamodelsError)}
    assert rows("errors.md", "Errors") == kinds
    assert rows("errors.md", "Exit codes") == {str(int(code)) for code in ExitCode}


def test_every_field_of_a_spec_has_a_row():
    assert rows("spec.md", "A run") == set(RunSpec.model_fields)
    for name in ("dataset", "trainer", "design", "evaluate", "fit", "until"):
        model = RunSpec.model_fields[name].annotation
        model = getattr(model, "__args__", (model,))[0]
        assert rows("spec.md", name) == {field.alias or key for key, field in model.model_fields.items()}


def test_every_call_and_message_has_a_row():
    files = [module.DESCRIPTOR for module in PROTOS]
    for service in (s for file in files for s in file.services_by_name.values()):
        assert rows("rpcs.md", service.name) == {method.name for method in service.methods}
    for message in (m for file in files for m in file.message_types_by_name.values()):
        assert rows("rpcs.md", message.name) == {field.name for field in message.fields}


def test_every_proto_of_a_service_is_in_the_reference():
    assert {p.stem for p in (ROOT / "proto").rglob("*.proto")} == {Path(m.DESCRIPTOR.name).stem for m in PROTOS}


def helped(capsys, *command):
    """What a command's help prints."""
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def test_every_command_has_a_section(capsys):
    commands = re.findall(r"^    ([a-z]+)(?: |$)", helped(capsys).split("commands:")[1], re.MULTILINE)
    assert {heading.split()[1] for heading in headings("cli.md")} == set(commands)


@pytest.mark.parametrize("heading", headings("cli.md"))
def test_every_option_of_a_command_has_a_row(heading, capsys):
    flag = re.compile(r"(?<!\S)--?[a-z][a-z-]*(?![a-z])")
    shown = re.findall(r"^  (-.*?)(?:   *\S.*)?$", helped(capsys, *heading.split()[1:]), re.MULTILINE)
    listed = {name for cell in cells("cli.md", heading) for name in flag.findall(cell.replace("`", " "))}
    assert listed == {name for line in shown for name in flag.findall(line)} - {"-h", "--help"}

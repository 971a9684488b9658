import inspect
import pickle

import grpc
import pytest

from datamodels import errors
from datamodels.errors import DatamodelsError, ExitCode


def classes():
    return [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, DatamodelsError)]


def drawn():
    """Parses the tree in the module's docstring into {class name: parent's name}."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        head = line.strip().lstrip("│├└─ \u00a0")
        name = head.split()[0] if head else ""
        if not hasattr(errors, name):
            continue
        depth = (line.index(name) - 4) // 4
        del path[depth:]
        parents[name] = path[-1] if path else None
        path.append(name)
    return parents


def test_the_tree_in_the_docstring_is_the_real_one():
    real = {c.__name__: None if c is DatamodelsError else c.__base__.__name__ for c in classes()}
    assert drawn() == real


@pytest.mark.parametrize("kind", classes())
def test_every_class_has_a_code_that_exists_and_an_exit_code(kind):
    assert grpc.StatusCode[kind.grpc_code] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert isinstance(kind.exit_code, ExitCode)
    assert kind.exit_code != ExitCode.DONE


@pytest.mark.parametrize("kind", classes())
def test_every_class_can_be_built_from_one_message(kind):
    """`rpc.status` rebuilds errors of any class from a received status."""
    error = kind("field = 3: must be 4")
    assert str(error) == "field = 3: must be 4"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_exit_codes_differ():
    assert len({int(code) for code in ExitCode}) == len(ExitCode.__members__)


def test_a_spec_error_keeps_its_faults():
    error = errors.SpecError(["m = 1: too few", "alpha = 2: too large"])
    assert error.faults == ("m = 1: too few", "alpha = 2: too large")
    assert str(error) == "m = 1: too few\nalpha = 2: too large"


@pytest.mark.parametrize(
    ("code", "known"),
    [(2, ExitCode.CONFIG), (75, ExitCode.TRANSIENT), (143, ExitCode.TERMINATED), (-9, ExitCode.FAILED), (99, 1)],
)
def test_a_stage_error_keeps_only_known_exit_codes(code, known):
    assert errors.StageError("train: stopped", code).exit_code == known

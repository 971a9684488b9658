import subprocess
import sys

import numpy as np
import pytest

from datamodels.errors import ExitCode, SpecError, StageError
from datamodels.outputs import LOSS, MARGIN, SQUARED_ERROR, Output
from datamodels.run import runs, specs
from datamodels.train.contract import load_trainer, model_seed, models_at_once, resolve
from datamodels.train.workloads import digits

USERS_MODULE = '''
import numpy as np
from datamodels.outputs import Output
from datamodels.train import Dataset
from datamodels.train.workloads import mlp

def take(parts):
    x = np.zeros((len(parts.pop()), 1))
    return Dataset(x=x, y=[0], x_test=x, y_test=[0])

class Mean:
    """Predicts the mean label."""
    def __init__(self, dataset, targets, scale=1.0):
        if scale < 0:
            raise ValueError("scale is negative")
        self.y, self.targets, self.scale = dataset.y, targets, scale
    def train(self, subset, seed):
        return self.y[subset].mean() * self.scale + seed
    def outputs(self, model):
        return [model] * len(self.targets)

class Greedily:
    """Takes what it needs out of its options."""
    def __init__(self, dataset, targets, names):
        self.names = [names.pop() for _ in range(len(names))]
    def train(self, subset, seed): pass
    def outputs(self, model): pass

class Broken:
    def __init__(self, dataset, targets):
        raise KeyError("colour is missing")
    def train(self, subset, seed): pass
    def outputs(self, model): pass

class Greedy:
    def __init__(self, dataset, targets):
        raise MemoryError
    def train(self, subset, seed): pass
    def outputs(self, model): pass

class NoOutputs:
    def __init__(self, dataset, targets): pass
    def train(self, subset, seed): pass

class Batched:
    models_at_once = 3
    def __init__(self, dataset, targets): pass
    def train_many(self, subsets, seeds): return [len(s) for s in subsets]
    def outputs_many(self, models): return np.array(models)[:, None]

class NoBatch(Batched):
    models_at_once = None

class FirstSpelling:
    batch = 5
    def __init__(self, dataset, targets): pass
    def train_many(self, subsets, seeds): return [len(s) for s in subsets]
    def outputs_many(self, models): return np.array(models)[:, None]

class Inherits(mlp.MLP): pass

class Forwards(mlp.MLP):
    def __init__(self, dataset, targets, **options):
        super().__init__(dataset, targets, epochs=1, **options)

class NamesRows(mlp.MLP):
    def __init__(self, dataset, targets, rows=1, **options):
        super().__init__(dataset, targets, **options)
        self.rows = rows

class Declares(Batched):
    output = Output("price error", "euro", higher_is_better=False)

class DeclaresByOptions(Batched):
    def __init__(self, dataset, targets, log=False): pass
    @classmethod
    def output(cls, dataset, log=False):
        assert len(dataset.y)
        return Output("log price" if log else "price")

class DeclaresText(Batched):
    output = "margin"

class DeclaresNothing(Batched):
    def output(self, model): return 1

class DeclarationFails(Batched):
    @staticmethod
    def output(dataset): return 1 / 0

def function(dataset, targets): pass
'''
DATA = digits.load()


def spec_of(cls, options):
    document = {"name": "a", "dataset": {"load": "datamodels.train.digits:load"}, "m": 100}
    return specs.parse(document | {"trainer": {"class": cls, "options": options}})


def declared_by(cls, **options):
    return resolve(spec_of(cls, options), DATA).declared


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(USERS_MODULE)
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)

    yield lambda cls, **options: load_trainer(spec_of(cls, options), DATA, DATA.targets("test"))
    sys.modules.pop("users_module", None)


def test_a_trainer_of_single_models_trains_many(load):
    trainer = load("users_module:Mean", scale=2.0)
    models = trainer.train_many([np.arange(10), np.arange(20)], [0, 100])
    outputs = trainer.outputs_many(models)
    assert trainer.models_at_once == 1 and outputs.shape == (2, 397)
    np.testing.assert_allclose(outputs[:, 0], [2 * DATA.y[:10].mean(), 2 * DATA.y[:20].mean() + 100])


def test_a_batched_trainer_is_used_as_it_is(load):
    trainer = load("users_module:Batched")
    assert type(trainer).__name__ == "Batched" and trainer.models_at_once == 3


def test_models_at_once_has_an_old_spelling(load):
    assert models_at_once(load("users_module:FirstSpelling")) == 5


@pytest.mark.parametrize("name", ["Inherits", "Forwards"])
def test_a_subclass_of_a_built_in_trainer_takes_both_spellings_of_its_options(load, name):
    for options in ({"batch": 7, "rows": 9}, {"models_at_once": 7, "batch_size": 9}):
        trainer = load(f"users_module:{name}", **options)
        assert trainer.models_at_once == 7 and trainer.recipe.batch_size == 9
    with pytest.raises(SpecError, match="rows and batch_size are two spellings of one option; give batch_size only"):
        load(f"users_module:{name}", rows=9, batch_size=9)


def test_a_subclass_gets_the_options_that_it_names(load):
    trainer = load("users_module:NamesRows", rows=4, batch_size=9, decay=0.5)
    assert trainer.rows == 4 and trainer.recipe.batch_size == 9 and trainer.recipe.weight_decay == 0.5


def test_built_in_trainers_fit_the_contract(load):
    assert load("datamodels.train.mlp:MLP", hidden=8).models_at_once > 1
    assert load("datamodels.train.tabular:Tabular").models_at_once == 1


@pytest.mark.parametrize(
    ("cls", "options", "fault"),
    [
        ("nowhere:Thing", {}, "trainer.class = 'nowhere:Thing': cannot be imported"),
        ("users_module:Thing", {}, "module users_module has no Thing"),
        ("users_module:function", {}, "has type function: must be a class"),
        ("users_module:NoOutputs", {}, "must have the methods train and outputs, or train_many and outputs_many"),
        ("users_module:NoBatch", {}, "its attribute models_at_once is None"),
        ("broken_module:Thing", {}, "'broken_module:Thing': cannot be imported: ZeroDivisionError: division by zero"),
        (
            "users_module:Mean",
            {"colour": 1},
            "^trainer.options.colour: unknown option of users_module:Mean; its options are scale",
        ),
        ("users_module:Broken", {}, r"trainer.options = {}: users_module:Broken: KeyError: 'colour is missing'"),
        ("users_module:Mean", {"scale": -1.0}, "trainer.options = .*ValueError: scale is negative"),
        (
            "datamodels.train.mlp:MLP",
            {"colour": 1},
            "^trainer.options.colour: unknown option of datamodels.train.workloads.mlp:MLP; its options are ",
        ),
        ("datamodels.train.mlp:MLP", {"output": "accuracy"}, "trainer.options.output = 'accuracy'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(load, cls, options, fault):
    with pytest.raises(SpecError, match=fault) as caught:
        load(cls, **options)
    assert caught.value.exit_code == ExitCode.CONFIG and "\n" not in str(caught.value)


def test_a_class_that_changes_its_options_changes_no_spec(load):
    assert [load("users_module:Greedily", names=["b", "a"]).trainer.names for _ in range(2)] == [["a", "b"]] * 2
    given = specs.parse(
        {"name": "x", "m": 20, "dataset": {"load": "users_module:take", "options": {"parts": ["x"]}}}
        | {"trainer": {"class": "users_module:Greedily", "options": {"names": ["b", "a"]}}}
    )
    name = given.run
    load_trainer(given, runs.load_dataset(given), digits.load(train=50).targets("test"))
    assert given.run == name and given.dataset.options == {"parts": ["x"]}


def test_a_class_declares_what_its_outputs_mean(load):
    assert declared_by("users_module:Declares") == Output("price error", "euro", higher_is_better=False)
    assert declared_by("users_module:DeclaresByOptions", log=True) == Output("log price")
    assert declared_by("users_module:Batched") is declared_by("users_module:DeclaresNothing") is None


@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        ("mlp:MLP", {}, MARGIN),
        ("mlp:MLP", {"output": "loss", "rows": 9}, LOSS),
        ("text:NaiveBayes", {}, MARGIN),
        ("tabular:Tabular", {}, MARGIN),
        ("tabular:Tabular", {"output": "loss"}, LOSS),
        ("tabular:Tabular", {"estimator": "sklearn.linear_model:Ridge"}, SQUARED_ERROR),
        ("torch:TorchTrainer", {"loss": "cross_entropy"}, MARGIN),
        ("torch:TorchTrainer", {"loss": "cross_entropy", "output": "loss"}, LOSS),
        ("torch:TorchTrainer", {"loss": "squared_error"}, SQUARED_ERROR),
        ("torch:TorchTrainer", {"loss": "torch.nn.functional:l1_loss"}, Output("loss", higher_is_better=False)),
        ("torch:TorchTrainer", {"output": "torch.nn.functional:l1_loss"}, None),
    ],
)
def test_built_in_trainers_declare_what_their_outputs_mean(cls, options, expected):
    assert declared_by(f"datamodels.train.{cls}", **options) == expected


@pytest.mark.parametrize(
    ("cls", "fault"),
    [
        ("users_module:DeclaresText", "its attribute output is a str: must be a datamodels.Output"),
        ("users_module:DeclarationFails", "its attribute output, called with the options: ZeroDivisionError"),
        ("datamodels.train.mlp:MLP", "trainer.options.output = 'accuracy': must be loss or margin"),
    ],
)
def test_a_declaration_that_is_none_is_refused(load, cls, fault):
    with pytest.raises(SpecError, match=fault):
        declared_by(cls, **({"output": "accuracy"} if "mlp" in cls else {}))


def test_no_memory_for_a_trainer_may_pass(load):
    with pytest.raises(
        StageError,
        match=r"users_module:Greedy: out of memory before the first model, MemoryError.*\(.*:\d+ in __init__\)",
    ) as caught:
        load("users_module:Greedy")
    assert caught.value.exit_code == ExitCode.TRANSIENT


def test_seeds_never_change():
    """A model that is trained again gets the same seed from every version of this package."""
    assert [model_seed(0, i) for i in range(3)] == [7896617691693857887, 2918264622725855778, 8597659618385908031]
    assert model_seed(2**63 - 1, 99_999_999) == 4354992326100303824
    assert [model_seed(0, i, 1) for i in range(2)] == [4324601099084218337, 1554199118406742183]


def test_seeds_differ_between_models_and_runs():
    seeds = [model_seed(run, model, attempt) for run in range(5) for model in range(1000) for attempt in (0, 1)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)


def test_the_contract_is_free_of_heavy_imports():
    code = "import sys, datamodels.train.contract, datamodels.train.job; print({'torch', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

"""What users get wrong, and what they are told: one line that says what, where, and what to do. Read it aloud.

In a message, `~` stands for what differs between machines and seeds.
"""

import math
import re
import sys
import threading
from datetime import date

import numpy as np
import pytest

from datamodels.errors import DatamodelsError, ExitCode
from datamodels.exchange import sources
from datamodels.exchange.importing import Given, survey
from datamodels.run import documents, runs, specs
from datamodels.run.dataset import Dataset
from datamodels.settings import FitterSettings, ServeSettings, StoreSettings, TrainerSettings
from datamodels.storage import open_store
from datamodels.train import job
from datamodels.train.contract import load_trainer
from datamodels.train.device import limit_threads
from datamodels.train.failures import Failures
from tests.train.conftest import MemoryAggregator, MemorySampler

SPEC = {
    "name": "try",
    "dataset": {"load": "mine:load"},
    "trainer": {"class": "mine:Mean"},
    "m": 100,
    "chunk": 100,
    "sub_chunk": 10,
    "evaluate": {"subsets": 0},
}
MINE = """
import numpy as np
from datamodels.train import Dataset

X = np.arange(20.0)

def load(rows=20, y=None, **options):
    return Dataset(x=X[:rows], y=X if y is None else y, x_test=X[:2], y_test=X[:2])

def table(path):
    return load_csv(path)

def nothing():
    pass

def leaves():
    raise SystemExit(3)

class Mean:
    def __init__(self, dataset, targets, rate=0.1, say=None):
        if rate < 0:
            raise ValueError("the rate is negative")
        self.y, self.say = dataset.y, say

    def train(self, subset, seed):
        if self.say == "raise":
            return self.y[len(subset) + 99]
        return self.y[subset].mean()

    def outputs(self, model):
        return {"long": [model] * 3, "text": ["a", "b"], "nan": [np.nan] * 2}.get(self.say, [model] * 2)

class Half:
    def train(self, subset, seed): pass

class NoBatch(Mean):
    def train_many(self, subsets, seeds): pass
    def outputs_many(self, models): pass

value = 3

def interrupts():
    raise KeyboardInterrupt

class Interrupts(Mean):
    def train(self, subset, seed):
        raise KeyboardInterrupt("enough")

class Nothing(Mean):
    def outputs(self, model): pass

class Objects(Mean):
    def outputs(self, model): return [{}, {}]

class NoTargets(Mean):
    def __init__(self, dataset): pass

class Waits(Mean):
    async def train(self, subset, seed): pass
"""
LIBRARY = "import os\n\nLEVEL = int(os.environ['LIBRARY_LEVEL'])\n"


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("import numpy as np\n\nnp.load('/no/such/file')\n")
    (tmp_path / "typo.py").write_text("def load(:\n    pass\n")
    (tmp_path / "user_of_library.py").write_text("import library_of_others\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "library_of_others.py").write_text(LIBRARY)
    monkeypatch.setenv("LIBRARY_LEVEL", "zz")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("mine", "broken", "typo"):
        sys.modules.pop(name, None)


def spec(**fields):
    return specs.parse(SPEC | fields)


def dataset(load="mine:load", **options):
    return runs.load_dataset(spec(dataset={"load": load, "options": options}))


def trainer(cls="mine:Mean", **options):
    given = spec(trainer={"class": cls, "options": options})
    data = dataset()
    return load_trainer(given, data, data.targets("test"))


def train(cls="mine:Mean", **options):
    given = spec(trainer={"class": cls, "options": options})
    data = dataset()
    run, aggregator = runs.resolve(given, data), MemoryAggregator(given.models)
    made = load_trainer(given, data, data.targets("test"))
    job.run_chunk(run, 0, made, MemorySampler(), aggregator, threading.Event())


def arrays(**changed):
    return Dataset(**{"x": np.zeros((3, 2)), "y": np.arange(3), "x_test": np.zeros((1, 2)), "y_test": [0]} | changed)


def imported(masks, outputs, times=1):
    np.save("masks.npy", masks)
    np.save("outputs.npy", outputs)
    return sources.open_all(["masks.npy", "outputs.npy"] * times)


def yaml(text):
    return documents.load(text)


def tabular(y, estimator="LogisticRegression", **options):
    data = Dataset(x=np.arange(12.0).reshape(6, 2), y=y, x_test=np.zeros((2, 2)), y_test=y[:2])
    given = {"estimator": f"sklearn.linear_model:{estimator}", **options}
    made = spec(trainer={"class": "datamodels.train.tabular:Tabular", "options": given})
    return load_trainer(made, data, data.targets("test"))


WRONG = [
    # specs
    (lambda: specs.load("nowhere.yaml"), "nowhere.yaml: No such file or directory"),
    (lambda: specs.parse([1]), "the spec is a list: must be a mapping of fields"),
    (lambda: spec(alpha=1.5), "alpha = 1.5: must be less than 1"),
    (lambda: spec(m=1e4), "m = 10000.0: must be a whole number; write 10000"),
    (lambda: spec(m="many"), "m = 'many': must be a valid integer"),
    (lambda: spec(sub_chunk=30), "sub_chunk = 30: must divide chunk = 100"),
    (lambda: spec(fit={"estimator": "magic"}), "fit.estimator = 'magic': must be 'lasso', ~"),
    (lambda: spec(until={"lds": 0.9}), "until: needs evaluate.subsets, to measure LDS on; they are 0"),
    (
        lambda: yaml("m: 0400"),
        "line 1: 0400 is octal in YAML 1.1 and decimal in 1.2; write 400, ~, or a text in quotes",
    ),
    (
        lambda: yaml("a: 1\nt: 6:40"),
        "line 2: 6:40 is 400 in YAML 1.1 and a text in 1.2; write 400, or a text in quotes",
    ),
    (lambda: yaml("m: 1\nm: 2"), "line 2: 'm' is given twice"),
    (lambda: yaml("m: [1"), "is not YAML: ~"),
    # options
    (lambda: trainer(weights={0: 5.0}), "trainer.options.weights: key 0 is no text; write '0', and convert it where ~"),
    (
        lambda: dataset(rate=math.nan),
        "dataset.options.rate: nan is no finite number; leave it out, or write the text 'nan' ~",
    ),
    (
        lambda: dataset(since=date(2026, 1, 1)),
        "dataset.options.since: datetime.date(2026, 1, 1) is a date; write texts, ~",
    ),
    (lambda: dataset(ids={1, 2}), "dataset.options.ids: {1, 2} is a set; write a list"),
    (
        lambda: trainer(colour=1),
        "trainer.options.colour: unknown option of mine:Mean; its options are rate, say",
    ),
    (
        lambda: trainer(rate=-1.0),
        "trainer.options = {'rate': -1.0}: mine:Mean: ValueError: the rate is negative (mine.py:22 in __init__)",
    ),
    # loaders
    (
        lambda: dataset("nowhere:load"),
        "dataset.load = 'nowhere:load': cannot be imported: ModuleNotFoundError: No module named 'nowhere'; "
        "if it is in this folder, put PYTHONPATH=. before the command",
    ),
    (lambda: dataset("mine:lod"), "dataset.load = 'mine:lod': module mine has no lod"),
    (
        lambda: dataset("broken:load"),
        "dataset.load = 'broken:load': cannot be imported: FileNotFoundError: ~'/no/such/file' (broken.py:3 "
        "in <module>)",
    ),
    (lambda: dataset("typo:load"), "dataset.load = 'typo:load': cannot be imported: SyntaxError: ~ (typo.py:1)"),
    (
        lambda: dataset("mine:table", path="a.csv"),
        "dataset.load = 'mine:table': raised NameError: name 'load_csv' is not defined (mine.py:11 in table)",
    ),
    (lambda: dataset("mine:table"), "dataset.options: mine:table: missing a required argument: 'path'"),
    (lambda: dataset("mine:leaves"), "dataset.load = 'mine:leaves': raised SystemExit: 3 (mine.py:17 in leaves)"),
    (lambda: dataset("mine:nothing"), "dataset.load = 'mine:nothing': returned NoneType, must be a Dataset"),
    (
        lambda: dataset("mine:interrupts"),
        "dataset.load = 'mine:interrupts': raised KeyboardInterrupt (mine.py:43 in interrupts)",
    ),
    (
        lambda: dataset("user_of_library:load"),
        "the package library_of_others cannot be imported, likely because of "
        "the environment variable LIBRARY_LEVEL: ValueError: invalid literal for int() with base 10: 'zz'; correct or "
        "unset it",
    ),
    # trainers
    (lambda: trainer("mine:value"), "trainer.class = 'mine:value': has type int: must be a class"),
    (
        lambda: trainer("mine:Half"),
        "trainer.class = 'mine:Half': must have the methods train and outputs, or train_many and outputs_many",
    ),
    (
        lambda: trainer("mine:NoBatch"),
        "trainer.class = 'mine:NoBatch': its attribute models_at_once is None; set it to the number ~",
    ),
    (
        lambda: trainer("mine:NoTargets"),
        "trainer.options: mine:NoTargets: must take 2 arguments before its options: __init__(self, dataset, ~",
    ),
    (lambda: trainer("mine:Waits"), "trainer.class = 'mine:Waits': its method train is async: must be a plain ~"),
    (
        lambda: train(say="raise"),
        "mine:Mean: models on 6 of the 6 subsets so far failed, too many to be chance; model 0 (seed ~): "
        "raised IndexError: index 109 is out of bounds for axis 0 with size 20 (mine.py:27 in train); again "
        "with seed ~: the same. Correct the trainer; or set DATAMODELS_TRAINER_TOLERATED_FAILURES to the "
        "fraction that may fail, now 0.1",
    ),
    (
        lambda: train(say="nan"),
        "mine:Mean: models on 6 of the 6 subsets so far failed, too many to be chance; model 0 (seed ~): 2 "
        "of 2 outputs are not finite; ~",
    ),
    (
        lambda: train(say="long"),
        "mine:Mean gave outputs float64[3] for model 0 (seed ~): must be float[2], a number for each target",
    ),
    (lambda: train(say="text"), "mine:Mean gave outputs <U1[2] for model 0 (seed ~): must be float[2], ~"),
    (
        lambda: train("mine:Nothing"),
        "mine:Nothing gave None as outputs, as if `outputs` had no `return`, for model 0 (seed ~): must be float[2], a "
        "number for each target",
    ),
    (
        lambda: train("mine:Objects"),
        "mine:Objects gave outputs that are no array of numbers, such as a dict, for model 0 (seed ~): must be ~",
    ),
    (
        lambda: train("mine:Interrupts"),
        "mine:Interrupts: models on 6 of the 6 subsets so far failed, too many to be chance; model 0 (seed ~): raised "
        "KeyboardInterrupt: enough (mine.py:47 in train); ~",
    ),
    # arrays that are imported
    (
        lambda: imported(np.zeros((200, 5)), np.zeros((200, 0))),
        "outputs.npy: has 200 rows and 0 columns, so it is empty: must have a row for each model and a column for each "
        "target",
    ),
    (
        lambda: imported(np.zeros(200), np.zeros((200, 3))),
        "masks.npy: has 1 dimension, [200]: must have 2, a row for each model and a column for each training example",
    ),
    (
        lambda: [*survey(Given(imported(np.eye(9), np.arange(27.0).reshape(9, 3), times=2))).notes()],
        "masks.npy and outputs.npy: is given twice, so each of its models would count twice; give it once",
    ),
    # arrays
    (lambda: arrays(y=np.arange(2)), "dataset: x has 3 rows and y has 2: must be equal"),
    (lambda: arrays(x_test=np.zeros((1, 3))), "dataset: a row of x has shape [2] and one of x_test [3]: must be equal"),
    (
        lambda: arrays(x=(row for row in range(3))),
        "dataset: x is a generator, which can be read only once; make it a list or an array",
    ),
    (
        lambda: arrays(y=np.zeros(3, dtype=[("event", "?"), ("time", "f8")])),
        "dataset: y has the fields event and time: must be numbers; make them columns: np.stack([y[name] for name ~",
    ),
    (
        lambda: arrays(y=[0.0, math.nan, 1.0]),
        "dataset: y has missing values, 1 of 3, the first at example 1; fill them, or leave the examples out",
    ),
    (
        lambda: arrays(y=["a", "nan", ""], y_test=["a"]),
        "dataset: y has labels that stand for missing values, such as 'nan', 2 of 3, the first at example 1; fill "
        "them, or leave the examples out",
    ),
    (
        lambda: arrays(y=["a", "b", "c"], y_test=[" "]),
        "dataset: y_test has labels that stand for missing values, such as ' ', 1 of 1, the first at example 0; ~",
    ),
    (
        lambda: arrays(y=["199", "24.50", "199"], y_test=["24.50"]),
        "dataset: y holds numbers as texts, such as '24.50', which would make 2 classes; make them numbers: "
        "y.astype(float)",
    ),
    (
        lambda: arrays(y_test=[0.5]),
        "dataset: y holds integers and y_test floats: integers are classes, and floats are numbers; make both "
        "integers if they are classes, and both floats if they are not",
    ),
    (
        lambda: arrays(y=np.array([1, "a", 2], dtype=object)),
        "dataset: y holds int and str: must be all numbers or all texts",
    ),
    (
        lambda: runs.resolve(spec(), arrays(y=[1, -1, 1])),
        "dataset: y has -1 at example 1: integers are classes, from 0 to 2147483647; number the classes with "
        "np.unique(y, return_inverse=True)[1], or give numbers that are no classes as floats",
    ),
    (
        lambda: runs.resolve(spec(), arrays(y_test=[10**12])),
        "dataset: y of the targets has 1000000000000 at example 0: integers are classes, from 0 to 2147483647; ~",
    ),
    (
        lambda: arrays(y=np.ma.masked_equal([1, 0, 1], 0)),
        "dataset: y has masked values, 1 of 3; fill them, or leave the examples out",
    ),
    (
        lambda: arrays(own_test=[0, 1]),
        "dataset: own_test has shape [2] and type int64: must be an integer for each of 1 test examples",
    ),
    (
        lambda: arrays(own_test=[3]),
        "dataset: own_test 0 is 3: must be a pool example, 0 to 2, or -1 for none",
    ),
    (
        lambda: runs.resolve(spec(fit={"estimator": "weighted"}), arrays(own_test=[2])),
        "fit.estimator = 'weighted': takes no targets that are training examples (own_test)",
    ),
    (lambda: arrays(y=["a", "b", "a"]), "dataset: y holds texts and y_test numbers: must both hold one or the other"),
    (
        lambda: tabular(["a", "b"] * 3, "Ridge"),
        "dataset: y holds texts, but the estimator is a regressor; give numbers, or name a classifier",
    ),
    (
        lambda: tabular(np.linspace(0, 1, 6)),
        "dataset: y has 0.2, but the estimator is a classifier; give classes, or name a regressor",
    ),
    (lambda: tabular([4] * 6), "dataset: all examples are of class 4; a classifier needs two classes"),
    # environment
    (lambda: ServeSettings.load({"DATAMODELS_SERVE_PORT": "99999"}), "DATAMODELS_SERVE_PORT=99999: must be 0 to 65535"),
    (
        lambda: FitterSettings.load({"DATAMODELS_FITTER_THREADS": "four"}),
        "DATAMODELS_FITTER_THREADS='four': must be int",
    ),
    (lambda: limit_threads(TrainerSettings(threads=0).threads), "DATAMODELS_TRAINER_THREADS=0: must be at least 1"),
    (lambda: Failures(None, 2.0), "DATAMODELS_TRAINER_TOLERATED_FAILURES=2.0: must be 0 to 1"),
    (
        lambda: Failures(None, difference=math.nan),
        "DATAMODELS_TRAINER_TOLERATED_DIFFERENCE=nan: must be a fraction of the spread of outputs, 0 or more",
    ),
    (
        lambda: open_store(StoreSettings(url="ftp://x")),
        "store 'ftp://x': must be file://FOLDER or s3://BUCKET/PREFIX; --store or DATAMODELS_STORE_URL gives it",
    ),
]


@pytest.mark.parametrize(("give", "message"), WRONG, ids=[re.sub(r"\W+", " ", message)[:60] for _, message in WRONG])
def test_a_wrong_input_is_told_in_one_line(give, message):
    with pytest.raises((DatamodelsError, ValueError)) as raised:
        give()
    said = str(raised.value)
    assert re.fullmatch(re.escape(message).replace("\\~", "~").replace("~", ".*"), said), said
    assert getattr(raised.value, "exit_code", ExitCode.CONFIG) == ExitCode.CONFIG


def test_the_table_is_long_enough():
    assert len(WRONG) >= 40

"""Findings of small runs, made through the real commit path."""

import html.parser

import numpy as np

from datamodels.aggregate import manifest
from datamodels.analyze.findings import gather
from datamodels.baselines import lime
from datamodels.baselines.lime import Explanation
from datamodels.run import runs
from datamodels.storage.local import LocalStore
from datamodels.testing import committed, fitted
from datamodels.train import Dataset

NAMES = ("cat", "<dog>", "fox", "hen")


def dataset(**fields):
    """Pictures of 2 x 2 pixels; labels as `committed.make_run` has them."""
    rng, size = np.random.default_rng(0), committed.D + committed.N
    x, y, d = rng.random((size, 4)), np.arange(size) % 4, committed.D
    given = {"groups": y[:d], "image_shape": (2, 2), "label_names": NAMES} | fields
    return Dataset(given.pop("x", x[:d]), y[:d], x[d:], y[d:], **given)


def findings(folder, *, data="pictures", stop=None, fit=True, fit_settings=None, **fields):
    """Make a run and return its findings; only models below `stop` are committed; `fields` are of the spec."""
    data = dataset() if isinstance(data, str) else data
    store, run = LocalStore(folder), committed.make_run(evaluate={"subsets": 6, "models": 3}, **fields)
    if data is not None:
        run = runs.resolve(run.spec, data)
    runs.create(store, run)
    committed.commit(store, run, stop)
    if fit:
        theta = weights(run)
        rows = manifest.read_newest(store, run.name).rows_below(run.spec.m)
        fitted.commit_fit(store, run, theta, rows=rows, settings=fit_settings, measured=0.25 * theta)
    return gather(store, run, data)


def explained(found, *targets):
    """Return what LIME might say of some targets: part i adds i - 1."""
    count = found.dataset.x.shape[1]
    added = np.arange(count) - 1.0
    span = np.stack([added - 0.25, added + 0.25], axis=-1)
    names = lime.parts_of(found.dataset, found.dataset.x[0])[1]
    explanation = Explanation(np.arange(count), names, added, span, r2=0.75, output=1.5, models=2, samples=40)
    return dict.fromkeys(targets, explanation)


def weights(run):
    """float32[n, d]: near the truth; none for target 1, and target 3 does nothing but harm."""
    theta = committed.truth(run).T.astype(np.float32)
    theta += 0.05 * np.random.default_rng(3).normal(size=theta.shape).astype(np.float32) * (theta != 0)
    theta[1] = 0
    theta[3] = -np.abs(theta[3])
    return theta


class Strict(html.parser.HTMLParser):
    """Refuses tags that are not closed in order, and anything from elsewhere. Keeps texts, and ids with their tags."""

    EMPTY = frozenset({"meta", "img", "input", "rect", "line", "polygon", "polyline", "circle"})

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.ids, self.scripts = [], [], {}, []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href"):
                assert value.startswith(("data:", "#")), value
            if name == "id":
                assert value not in self.ids, f"{value} twice"
                self.ids[value] = tag
        if tag == "script":
            self.scripts.append([dict(attributes), ""])
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += text
        else:
            self.texts.append(text)


def parsed(text):
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser

import html.parser

import numpy as np
import pytest

from datamodels import run as runs
from datamodels import spec
from datamodels.analyze.evaluate import Evaluation
from datamodels.pipeline import Journey
from datamodels.report import page, summary
from datamodels.train import Dataset
from datamodels.v1 import query_pb2


def journey(*, image_shape=(2, 2), evaluation=True, kind="uniform", label_names=("cat", "<dog>")):
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 4)), np.arange(20) % 2
    data = Dataset(x, y, x[:5], y[:5], groups=y, image_shape=image_shape, label_names=label_names)
    fields = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    run = runs.resolve(spec.parse(fields | {"design": {"kind": kind}}), data)
    influences = [
        query_pb2.TopInfluencesResponse(
            target=query_pb2.Target(target=3, label=1),
            helpful=[query_pb2.Influence(column=1, weight=0.5, label=1)],
            harmful=[query_pb2.Influence(column=0, weight=-0.25, label=0)],
        )
    ]
    scores = Evaluation(0.9, (0.88, 0.92), 0.95, np.linspace(0.5, 1, 5), 100, 20) if evaluation else None
    seconds = {"start": 1.0, "train": 10.0, "fit": 0.0}
    return Journey(
        run, data, seconds, trained=500, committed=2100, failed=2, fit=0, evaluation=scores, influences=influences
    )


class Strict(html.parser.HTMLParser):
    """Refuses tags that are not closed in order, and anything from elsewhere."""

    EMPTY = frozenset({"meta", "img", "rect", "line", "polygon", "polyline"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href"):
                assert value.startswith("data:"), value
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "fields", [{}, {"image_shape": None}, {"evaluation": False}, {"kind": "grouped"}, {"label_names": ()}]
)
def test_the_page_is_whole_and_needs_nothing_else(fields):
    text = page.html(journey(**fields))
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert "$" not in text and "http" not in text


def test_the_page_shows_what_there_is():
    text = page.html(journey())
    for shown in ("0.900", "0.880 to 0.920", "0.950", "+0.500", "-0.250", "target 3", "&lt;dog&gt; (#1)", "cat (#0)"):
        assert shown in text
    assert text.count("data:image/png") == 3


def test_the_summary_in_lines():
    lines = summary.text(journey()).splitlines()
    assert lines[1] == "models     500 trained at 50.0 models/s, 1,600 committed before, 2 failed"
    assert lines[2].startswith(
        "LDS        0.900  (95% interval 0.880 to 0.920; 100 unseen subsets x 20 models, 5 targets)"
    )
    assert lines[3].startswith("ceiling    0.950")
    assert lines[4] == "seconds    start 1.0  train 10.0  fit 0.0  total 11.0"
    assert lines[6:] == ["target 3 (<dog>)", "  helpful  #1 (<dog>) +0.500", "  harmful  #0 (cat) -0.250"]

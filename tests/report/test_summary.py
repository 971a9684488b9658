import numpy as np

from datamodels.analyze.quality.evaluate import Evaluation
from datamodels.report import summary
from datamodels.run import runs, specs
from datamodels.runners.pipeline import Result
from datamodels.v1 import query_pb2
from tests.report import made


def test_the_summary_in_lines():
    data = made.dataset()
    fields = {"name": "try", "dataset": {"load": "a:b"}, "trainer": {"class": "a:B"}, "m": 100}
    influences = [
        query_pb2.TopInfluencesResponse(
            target=query_pb2.Target(target=3, label=1),
            helpful=[query_pb2.Influence(column=1, weight=0.5, label=1)],
            harmful=[query_pb2.Influence(column=0, weight=-0.25, label=0, measured=0.125)],
        )
    ]
    result = Result(
        runs.resolve(specs.parse(fields), data),
        data,
        {"start": 1.0, "train": 10.0, "fit": 0.0},
        trained=500,
        committed=2100,
        failed=2,
        fit=0,
        fitted=2000,
        evaluation=Evaluation(0.9, (0.88, 0.92), 0.95, np.linspace(0.5, 1, 5), 100, 20),
        influences=influences,
    )
    lines = summary.text(result).splitlines()
    assert lines.pop(1).startswith("output     margin: higher is better, wrong below 0 (assumed; if it is not so, ")
    assert lines[1] == "models     500 trained at 50.0 models/s, 1,600 committed before, 2 failed"
    assert lines.pop(2).startswith(
        "failed     fits leave failed models out, and a resumed run does not train them again; "
    )
    assert lines[2].startswith(
        "LDS        0.900  (95% interval 0.880 to 0.920; 100 unseen subsets x 20 models, 5 targets)"
    )
    assert lines[3].startswith("ceiling    0.950")
    assert lines[4].startswith("verdict    good: ")
    assert lines[5] == "seconds    start 1.0  train 10.0  fit 0.0  total 11.0"
    assert lines[7:] == [
        "target 3 (<dog>)",
        "  helpful  #1 (<dog>) +0.500",
        "  harmful  #0 (cat) -0.250 (prior -0.375)",
    ]

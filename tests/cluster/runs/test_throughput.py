"""A cluster costs little beside the training: a thousand chunks of a trainer that takes no time end soon."""

import time

from tests.cluster.place import each_once
from tests.cluster.specs import LINEAR, written

CHUNKS = 1000


def test_a_thousand_chunks_of_a_trivial_trainer(running, tmp_path):
    running.make_tools()
    path, spec = written(
        tmp_path,
        "digits",
        name="trivial",
        **LINEAR,
        m=CHUNKS * 100,
        chunk=100,
        sub_chunk=100,
        evaluate={"subsets": 0},
    )
    began = time.monotonic()
    assert f"{spec.run}  done" in running.namespace.datamodels("submit", path, "--watch").stdout
    seconds = time.monotonic() - began
    print(f"{spec.chunks} chunks, {spec.models:,} models in {seconds:.0f} s: {spec.models / seconds:.0f} models/s")
    each_once(running, spec.run, spec.models)
    print(running.namespace.datamodels("logs", spec.run).stdout[-1500:])

import dataclasses
import json

import pytest

from datamodels.errors import InputError
from datamodels.explore import verdicts
from datamodels.explore.verdicts import Verdict
from datamodels.run import documents, runs, specs
from datamodels.storage import keys
from datamodels.testing import committed, linear
from tests.helpers.memory import MemoryStore


def verdict(index, verdict="keep", **fields):
    return Verdict(**{"kind": "label", "index": index, "other": -1, "verdict": verdict} | EMPTY | fields)


EMPTY = {"label": None, "note": "", "who": "", "when": 0.0}


def test_the_last_verdict_on_a_subject_counts():
    store = MemoryStore()
    for number in range(41):
        verdicts.add(store, "a", verdict(number % 7, "wrong" if number % 3 else "keep", when=float(number)))
    found = verdicts.read(store, "a")
    assert {one.index: one.when for one in found} == {n % 7: float(n) for n in range(34, 41)}
    assert [one.when for one in found] == sorted(one.when for one in found)


def test_all_verdicts_are_read_from_few_records():
    class Counting(MemoryStore):
        reads = 0

        def read(self, key):
            type(self).reads += 1
            return super().read(key)

    store = Counting()
    for number in range(100):
        before = Counting.reads
        verdicts.add(store, "a", verdict(number))
        assert Counting.reads - before <= 7
    Counting.reads = 0
    assert [one.index for one in verdicts.read(store, "a")] == list(range(100)) and Counting.reads <= 7


def test_a_verdict_that_came_second_takes_the_next_number():
    class Racing(MemoryStore):
        """Another writer adds its verdict just before ours."""

        raced = False

        def create(self, key, data):
            if not self.raced:
                Racing.raced = True
                verdicts.add(self, "a", verdict(1))
            return super().create(key, data)

    store = Racing()
    verdicts.add(store, "a", verdict(2))
    assert {one.index for one in verdicts.read(store, "a")} == {1, 2}
    assert len([key for key in store.objects if keys.kind(key) == "verdict"]) == 2


def test_a_verdict_is_taken_back():
    store = MemoryStore()
    verdicts.add(store, "a", verdict(3, "wrong"))
    verdicts.add(store, "a", verdict(3, "open"))
    assert verdicts.read(store, "a") == []


@pytest.mark.parametrize(
    "fields", [{"kind": "x"}, {"verdict": "x"}, {"label": 1}, {"verdict": "fix"}, {"other": 2}, {"note": "x" * 1001}]
)
def test_wrong_verdicts_are_refused(fields):
    with pytest.raises(InputError):
        dataclasses.replace(verdict(1), **fields)


def test_no_cell_of_the_table_is_a_formula():
    text = verdicts.as_csv([verdict(1, note="=cmd()", who="@x"), verdict(2, "fix", label=1)], ("a", "-b"))
    lines = text.split("\r\n")
    assert lines[0].startswith("kind,index,other") and "'=cmd()" in lines[1] and "'@x" in lines[1]
    assert lines[2].endswith("'-b")


SAID = [
    verdict(3, "wrong"),
    verdict(5, "fix", label=2),
    verdict(7, "keep"),
    verdict(0, "wrong", kind="leak", other=9),
    verdict(4, "wrong", kind="duplicate", other=11),
    verdict(2, "wrong", kind="fragile"),
    verdict(9, "fix", label=1),
]


def test_the_next_run_leaves_out_what_is_wrong_and_has_the_fixed_labels():
    run = runs.resolve(specs.parse(linear.make_run().spec.request() | {"design": {"pinned_in": [3, 8]}}), linear.load())
    document = verdicts.next_spec(run, SAID)
    following = specs.parse(documents.load(documents.dump(document)))
    assert following.design.pinned_out == (3, 9, 11) and following.design.pinned_in == (8,)
    assert following.dataset.relabel == {5: 2} and following.run != run.name
    assert specs.parse(json.loads(json.dumps(following.document()))) == following, "a store keeps it as JSON"
    made = runs.resolve(following, runs.load_dataset(following))
    assert (
        made.labels[5] == 2
        and made.labels[6] == run.labels[6]
        and made.design.inclusion[[3, 9, 11]].tolist() == [0] * 3
    )
    again = verdicts.next_spec(made, [verdict(6, "fix", label=0)])
    assert again["dataset"]["relabel"] == {5: 2, 6: 0} and again["design"]["pinned_out"] == [3, 9, 11]


def test_without_verdicts_the_next_run_is_the_same():
    run = linear.make_run()
    assert specs.parse(verdicts.next_spec(run, [verdict(7)])).run == run.name


def test_no_example_of_a_group_is_left_out():
    run = committed.make_run(design={"kind": "grouped"})
    with pytest.raises(InputError, match="groups"):
        verdicts.next_spec(run, SAID)

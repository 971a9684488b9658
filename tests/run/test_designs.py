import dataclasses
import hashlib
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datamodels.errors import InputError, MaskError
from datamodels.run import designs as sample
from datamodels.run.designs import Design, compiled
from datamodels.run.designs.drawing import COMPILED_FROM
from tests.helpers.properties import examples

FOURTHS = np.arange(23, dtype=np.int32) % 4
GOLDEN = {
    "uniform": Design("uniform", 7, 0.5, 20),
    "complement": Design("complement", 7, 0.5, 20),
    "stratified": Design("stratified", 7, 0.4, 23, FOURTHS),
    "grouped": Design("grouped", 7, 0.5, 23, FOURTHS),
    "hadamard": Design("hadamard", 7, 0.5, 20),
    "pinned": Design("uniform", 2**64 - 1, 0.3, 20, None, (3,), (0, 19)),
}


@st.composite
def designs(draw, kinds=sample.KINDS):
    """Designs of up to 60 examples, with groups and pins."""
    kind = draw(st.sampled_from(list(kinds)))
    examples = draw(st.integers(4, 60))
    groups = None
    if sample.KINDS[kind].groups:
        count = draw(st.integers(3 if sample.KINDS[kind].grouped else 1, min(examples, 12)))
        rest = draw(st.lists(st.integers(0, count - 1), min_size=examples - count, max_size=examples - count))
        groups = np.array(draw(st.permutations([*range(count), *rest])), dtype=np.int32)
    columns = int(groups.max()) + 1 if sample.KINDS[kind].grouped else examples
    pins = draw(st.lists(st.integers(0, columns - 1), max_size=4, unique=True))
    split = draw(st.integers(0, len(pins)))
    alpha = 0.5 if sample.KINDS[kind].halves else draw(st.floats(0.05, 0.95))
    try:
        return Design(
            kind, draw(st.integers(0, 2**64 - 1)), alpha, examples, groups, tuple(pins[:split]), tuple(pins[split:])
        )
    except InputError:
        assume(False)


indices = st.integers(0, 2**62)


@given(designs(), indices)
def test_every_subset_has_exactly_its_size_and_its_pins(design, index):
    subset = sample.subset(design, index)
    assert subset.dtype == np.int32
    assert len(subset) == len(set(subset.tolist()))
    assert len(subset) == design.size or design.varies
    assert (np.diff(subset) > 0).all()
    assert subset[0] >= 0
    assert subset[-1] < design.columns
    assert set(design.pinned_in) <= set(subset.tolist())
    assert not set(design.pinned_out) & set(subset.tolist())


@given(designs(), st.integers(0, 2**62), st.integers(1, 9), st.randoms())
def test_a_subset_is_the_same_in_any_order_and_any_range(design, first, count, random):
    masks = sample.unpack(sample.subsets(design, first, first + count), design.columns)
    order = list(range(count))
    random.shuffle(order)
    again = Design(**{field: getattr(design, field) for field in Design.__dataclass_fields__})
    for row in order:
        assert np.flatnonzero(masks[row]).tolist() == sample.subset(again, first + row).tolist()


@given(designs(kinds=["uniform", "complement", "stratified", "grouped"]), st.integers(0, 2**62), st.integers(1, 9))
def test_compiled_loops_draw_the_same(design, first, count):
    masks, done = compiled.subsets(design, first, first + count)
    assert done.all()
    assert (masks == sample.subsets(design, first, first + count)).all()


def test_a_subset_that_compiled_loops_cannot_draw_is_reported():
    design = Design("stratified", 5, 0.3, 1000, np.arange(1000, dtype=np.int32) % 3)
    masks, done = compiled.subsets(design, 0, 200, deviations=0.5)
    assert 0 < done.sum() < 200
    assert (masks == sample.subsets(design, 0, 200))[done].all()


@pytest.mark.parametrize("kind", sorted(sample.KINDS.keys() - {"imported"}))
def test_large_subsets_are_those_that_are_drawn_alone(kind):
    groups = np.arange(COMPILED_FROM + 6, dtype=np.int32) if sample.KINDS[kind].groups else None
    design = Design(kind, 2**64 - 1, 0.5, COMPILED_FROM + 6, groups, (1, 8000), (3, 5))
    first = 2**63 - 1
    for row, mask in enumerate(sample.unpack(sample.subsets(design, first, first + 5), design.columns)):
        assert np.flatnonzero(mask).tolist() == sample.subset(design, first + row).tolist()


@given(designs(kinds=["complement"]), st.integers(0, 2**61))
def test_the_odd_subset_is_the_complement_of_the_even_one(design, pair):
    even, odd = (set(sample.subset(design, 2 * pair + i).tolist()) for i in (0, 1))
    free = set(range(design.columns)) - set(design.pinned_in) - set(design.pinned_out)
    assert (even & free) | (odd & free) == free
    assert not even & odd & free


@given(designs(kinds=["stratified"]), indices)
def test_each_stratum_gives_its_share(design, index):
    chosen = np.zeros(design.columns, dtype=bool)
    chosen[sample.subset(design, index)] = True
    free = np.ones(design.columns, dtype=bool)
    free[list(design.pinned_in + design.pinned_out)] = False
    total = chosen[free].sum() / free.sum()
    for group in range(design.groups.max() + 1):
        members = free & (design.groups == group)
        assert abs(chosen[members].sum() - total * members.sum()) < 1


@given(designs(kinds=["grouped"]), indices)
def test_a_group_is_in_or_out_as_a_whole(design, index):
    columns = sample.subset(design, index)
    examples = design.members(columns)
    assert examples.dtype == np.int32
    inside = set(examples.tolist())
    for example in range(design.examples):
        assert (example in inside) == (design.column_of(example) in columns)


@given(designs(kinds=["uniform", "complement", "stratified"]), indices)
def test_columns_are_examples_where_there_are_no_groups_of_them(design, index):
    columns = sample.subset(design, index)
    assert design.members(columns).tolist() == columns.tolist()
    assert [design.column_of(e) for e in range(design.examples)] == list(range(design.columns))


@pytest.mark.parametrize("kind", sorted(GOLDEN))
def test_inclusion_is_how_often_a_column_is_drawn(kind):
    design = GOLDEN[kind]
    draws = 4000
    counts = sample.unpack(sample.subsets(design, 0, draws), design.columns).sum(axis=0)
    expected = design.inclusion.astype(np.float64)
    assert expected.sum() == pytest.approx(design.size)
    # Six standard deviations of a binomial share; a complement design has less.
    slack = 6 * np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= slack).all()


@pytest.mark.parametrize(("columns", "order"), [(3, 4), (20, 20), (60, 60), (61, 68), (1399, 1400)])
def test_subsets_of_a_hadamard_design_overlap_by_half(columns, order):
    """Of a whole matrix, exactly. If columns are cut, two rows may differ from it by as many entries."""
    design = Design("hadamard", 3, 0.5, columns)
    for block in (0, 5):
        first = block * (order - 1)
        signs = sample.unpack(sample.subsets(design, first, first + order - 1), columns) * 2.0 - 1
        rows, pairs = signs @ signs.T, signs.T @ signs
        assert (np.diag(rows) == columns).all()
        assert np.abs(rows - np.diag(np.diag(rows))).max() <= order - columns
        assert np.abs(signs.sum(axis=1)).max() <= order - columns
        # The row that is left out is constant, and signs of rows change no product.
        assert (pairs - np.diag(np.diag(pairs)) == np.eye(columns) - 1).all()
        assert (np.diag(pairs) == order - 1).all()


@given(designs(kinds=["hadamard"]), st.integers(0, 200), st.integers(0, 9))
def test_subsets_that_nothing_is_fitted_on_follow_no_matrix(design, first, beyond):
    """They are drawn as in a uniform design, with or without pins."""
    run = dataclasses.replace(design, unseen_from=first)
    assert (sample.subset(run, first + beyond) == sample.subset(design.at(0.5), first + beyond)).all()
    if first:
        assert (sample.subset(run, first - 1) == sample.subset(design, first - 1)).all()


def test_all_subsets_are_equally_likely():
    """Chi-square over all 20 halves of 6 columns, and over pairs of successive subsets."""
    design = Design("uniform", 11, 0.5, 6)
    draws = 20_000
    keys = sample.unpack(sample.subsets(design, 0, draws), 6) @ (1 << np.arange(6))
    names, codes = np.unique(keys, return_inverse=True)
    assert len(names) == math.comb(6, 3)
    for counts in (np.bincount(codes), np.bincount(codes[::2] * 20 + codes[1::2], minlength=400)):
        chi = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        freedom = len(counts) - 1
        assert abs(chi - freedom) < 5 * math.sqrt(2 * freedom)


def test_seeds_and_indices_give_different_subsets():
    masks = np.concatenate([sample.subsets(Design("uniform", seed, 0.5, 200), 0, 50) for seed in range(20)])
    assert len(np.unique(masks, axis=0)) == 1000


@pytest.mark.parametrize(
    ("name", "subsets", "digest"),
    [
        (
            "uniform",
            [
                [1, 2, 3, 4, 6, 8, 12, 16, 17, 19],
                [1, 3, 6, 9, 11, 12, 13, 15, 16, 17],
                [1, 3, 4, 6, 8, 9, 10, 11, 18, 19],
            ],
            "d2a2fc6de70ce167",
        ),
        (
            "complement",
            [
                [1, 2, 3, 4, 6, 8, 12, 16, 17, 19],
                [0, 5, 7, 9, 10, 11, 13, 14, 15, 18],
                [1, 2, 5, 7, 8, 14, 16, 17, 18, 19],
            ],
            "ef64d32f171d413d",
        ),
        (
            "stratified",
            [
                [1, 2, 4, 9, 12, 15, 16, 18, 19],
                [2, 4, 8, 11, 12, 13, 15, 21, 22],
                [1, 3, 4, 6, 12, 15, 16, 18, 21],
            ],
            "585161489ac641c6",
        ),
        ("grouped", [[1, 3], [1, 3], [1, 3]], "7c4115857defe5b6"),
        (
            "hadamard",
            [
                [0, 1, 2, 7, 8, 9, 12, 15, 16, 19],
                [0, 1, 3, 5, 7, 11, 13, 15, 17, 19],
                [0, 2, 3, 4, 6, 7, 10, 14, 16, 17],
            ],
            "569b28e2ec95c745",
        ),
        (
            "pinned",
            [[3, 10, 11, 14, 15, 18], [3, 5, 9, 10, 14, 15], [3, 7, 8, 10, 15, 16]],
            "498105e717429ad4",
        ),
    ],
)
def test_subsets_never_change(name, subsets, digest):
    """Weights that were fitted refer to these subsets; a version that draws others makes old runs wrong."""
    design = GOLDEN[name]
    assert [sample.subset(design, i).tolist() for i in (0, 1, 2**40 + 1)] == subsets
    assert hashlib.sha256(sample.subsets(design, 0, 1000).tobytes()).hexdigest()[:16] == digest


def test_subsets_of_the_papers_size_never_change():
    masks = sample.subsets(Design("uniform", 0, 0.5, 50_000), 299_990, 300_000)
    assert hashlib.sha256(masks.tobytes()).hexdigest()[:16] == "b17bef636146e86f"


@given(st.integers(1, 70), st.data())
def test_masks_survive_packing(columns, data):
    masks = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=columns, max_size=columns), min_size=1)))
    packed = sample.pack(masks)
    assert packed.shape == (len(masks), (columns + 7) // 8)
    assert (sample.unpack(packed, columns) == masks).all()
    assert packed[0, 0] & 1 == masks[0, 0]
    assert (sample.mask_of(np.flatnonzero(masks[0]), columns) == packed[0]).all()


@pytest.mark.parametrize(
    ("packed", "fault"),
    [
        (np.zeros(2, np.uint8), "mask of 2 uint8 values: 20 columns take 3 bytes"),
        (np.zeros(4, np.uint8), "mask of 4 uint8 values"),
        (np.zeros(3, np.int32), "mask of 3 int32 values"),
        (np.array([0, 0, 16], np.uint8), "a bit set beyond its 20 columns"),
    ],
)
def test_a_mask_that_is_none_is_refused(packed, fault):
    with pytest.raises(MaskError, match=fault):
        sample.unpack(packed, 20)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ([0, 20], "^column 20: must be 0 to 19$"),
        ([-1], "^column -1: must be 0 to 19$"),
        ([0.5], "must be a list of integers"),
        ([[1]], "must be a list of integers"),
    ],
)
def test_columns_that_are_none_are_refused(columns, fault):
    with pytest.raises(MaskError, match=fault):
        sample.mask_of(np.array(columns), 20)


def test_the_empty_list_is_the_empty_mask():
    assert sample.mask_of(np.array([]), 20).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 3), (4, 3)])
def test_a_range_that_is_none_is_refused(first, last):
    with pytest.raises(InputError, match=f"^subsets {first} to {last}: "):
        sample.subsets(GOLDEN["uniform"], first, last)


def test_a_negative_index_is_refused():
    with pytest.raises(InputError, match=r"^subset index -1: "):
        sample.subset(GOLDEN["uniform"], -1)


VALID = {"kind": "uniform", "seed": 1, "alpha": 0.5, "examples": 10}


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"kind": "even"}, ["design.kind = 'even': must be one of uniform, complement, stratified, grouped, hadamard"]),
        (
            {"kind": "hadamard", "alpha": 0.4},
            ["design.kind = 'hadamard' with alpha = 0.4 and 10 unpinned columns: needs "],
        ),
        (
            {"kind": "hadamard", "examples": 2},
            ["design.kind = 'hadamard' with alpha = 0.5 and 2 unpinned columns: needs alpha = 0.5 and at least 3"],
        ),
        ({"unseen_from": 3}, ["design.unseen_from = 3: must be at least 0, and only a hadamard design takes it"]),
        ({"seed": -1}, ["seed = -1: must be 0 to 2**64 - 1"]),
        ({"seed": 2**64}, [f"seed = {2**64}: must be 0"]),
        ({"alpha": 0.0}, ["alpha = 0.0: must be between 0 and 1"]),
        ({"alpha": math.nan}, ["alpha = nan: must be between 0 and 1"]),
        ({"alpha": math.inf}, ["alpha = inf: must be between 0 and 1"]),
        ({"examples": 0}, ["examples = 0: must be at least 1"]),
        ({"seed": -1, "alpha": 2, "examples": -3}, ["seed = -1", "alpha = 2", "examples = -3"]),
        ({"groups": np.zeros(10)}, ["design.groups: a uniform design takes none"]),
        ({"kind": "grouped"}, ["design.groups: a grouped design needs the group of each example"]),
        ({"kind": "stratified", "groups": np.zeros(9)}, ["design.groups has shape (9,): must be (10,)"]),
        ({"kind": "grouped", "examples": 0, "groups": np.zeros(0)}, ["examples = 0"]),
        ({"kind": "grouped", "groups": np.arange(10) * 2}, ["design.groups: must be numbered 0 to 9 without holes"]),
        ({"kind": "grouped", "groups": np.arange(10) - 1}, ["design.groups: must be numbered 0 to 9 without holes"]),
        ({"pinned_in": (10,)}, ["design pins column 10: must be 0 to 9"]),
        ({"pinned_out": (-1,)}, ["design pins column -1: must be 0 to 9"]),
        ({"pinned_in": (1,), "pinned_out": (1,)}, ["design pins a column twice"]),
        ({"alpha": 0.01}, ["alpha = 0.01 of 10 unpinned columns draws 0: must draw at least 1"]),
        ({"alpha": 0.99}, ["alpha = 0.99 of 10 unpinned columns draws 10"]),
        ({"pinned_in": tuple(range(10))}, ["alpha = 0.5 of 0 unpinned columns draws 0"]),
        ({"kind": "complement", "alpha": 0.4}, ["design.kind = 'complement' with alpha = 0.4"]),
        (
            {"kind": "complement", "examples": 11},
            ["design.kind = 'complement' with alpha = 0.5 and 11 unpinned columns"],
        ),
    ],
)
def test_a_faulty_design_names_each_fault(change, faults):
    with pytest.raises(InputError) as caught:
        Design(**VALID | change)
    message = str(caught.value).split("; ")
    assert len(message) == len(faults)
    for line, fault in zip(message, faults, strict=True):
        assert line.startswith(fault)


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("uniform", "uniform: 10 of 20 examples in each subset"),
        ("grouped", "grouped: 2 of 4 groups in each subset"),
        ("pinned", "uniform: 6 of 20 examples in each subset, 1 pinned in, 2 pinned out"),
    ],
)
def test_a_design_in_one_sentence(name, summary):
    assert GOLDEN[name].summary() == summary


@examples(5)
@given(st.integers(2, 3000))
def test_as_many_strata_as_examples_are_no_harder(count):
    design = Design("stratified", 1, 0.5, 2 * count, np.repeat(np.arange(count), 2))
    assert (sample.unpack(sample.subsets(design, 0, 1), 2 * count).reshape(count, 2).sum(axis=1) == 1).all()

import numpy as np
import pytest

from datamodels.fit.data import problem
from datamodels.fit.data import rows as row_blocks
from datamodels.fit.data.rows import Rows


@pytest.mark.parametrize("cache", [0, 2**30])
def test_blocks_are_centred_masks_fit_rows_first(made_problem, cache):
    made, x = made_problem(d=30, m=row_blocks.MEASURED_ROWS + 100, n=3)
    rows = Rows(made, cache=cache)
    order = np.concatenate([np.flatnonzero(~made.heldout), np.flatnonzero(made.heldout)])
    expected = (x[order] - made.center).astype(np.float32)
    for span in (rows.fit, rows.heldout, rows.whole, slice(3, 150)):
        block = rows.block(span)
        assert np.array_equal(block[:, :-1], expected[span])
        assert (block[:, -1] == np.float32(rows.tail)).all()
    assert np.array_equal(rows.outputs(1, 3), made.outputs[order, 1:3])


def test_which_rows_count(made_problem):
    made, x = made_problem(d=30, m=200, n=4, own=[-1, 29, 8, -1])
    rows = Rows(made)
    assert rows.keep(0, 1) is None
    expected = np.ones((200, 4), dtype=bool)
    expected[:, 1], expected[:, 2] = ~x[rows.order, 29], ~x[rows.order, 8]
    assert np.array_equal(rows.keep(0, 4), expected)
    assert np.array_equal(rows.keep(1, 3), expected[:, 1:3])


def test_curvature_is_that_of_the_gram(made_problem):
    made, x = made_problem(d=30, m=400, n=1)
    centred = x - made.center
    eigenvalue, norm = Rows(made).curvature()
    assert eigenvalue == pytest.approx(np.linalg.eigvalsh(centred.T @ centred / 400)[-1], rel=0.1)
    assert norm >= (centred**2).sum(axis=1).max()


def test_a_problem_of_no_rows():
    made = problem.Problem(
        masks=np.zeros((0, 1), dtype=np.uint8),
        outputs=np.zeros((0, 2), dtype=np.float16),
        columns=8,
        center=np.full(8, 0.5, dtype=np.float32),
        own_column=np.full(2, -1, dtype=np.int32),
        heldout=np.zeros(0, dtype=bool),
    )
    assert row_blocks.partition(Rows(made).whole, 5) == []


@pytest.mark.parametrize(("first", "last", "batch"), [(0, 10, 3), (5, 6, 100), (7, 1007, 256), (0, 512, 256)])
def test_a_partition_covers_its_span_evenly(first, last, batch):
    parts = row_blocks.partition(slice(first, last), batch)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(first, last))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) <= batch and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("m", [0, 1, row_blocks.SQUEEZED_ROWS + 7])
def test_columns_squeezed_into_the_memory_they_had(m):
    array = np.random.default_rng(0).normal(size=(m, 9))
    for places in ([0, 1, 2], [3, 8], [8], [], list(range(9))):
        given = array.copy()
        found = row_blocks.squeezed(given, np.array(places, dtype=np.int64))
        assert np.array_equal(found, array[:, places])
        assert found.flags.c_contiguous and (not found.size or np.shares_memory(found, given))


def test_a_shelf_is_a_file_only_where_there_is_a_folder(made_problem, tmp_path):
    made, _ = made_problem(d=30, m=200, n=4)
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert Rows(made).shelf(array) is array
    found = Rows(made, folder=tmp_path / "new").shelf(array)
    assert np.array_equal(found, array) and isinstance(found.base, np.memmap)

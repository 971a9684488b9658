"""A few lives of the torture f6. Its figures of memory need hours to mean anything."""

from tests.torture import lives


def test_runs_live_and_end_beside_each_other_under_kills(tmp_path):
    result = lives.run(tmp_path, 5, range(4))
    assert result.faults == []
    assert result.outcomes["lives ended"] == 4 and result.outcomes["kills"] and result.outcomes["reads that ended well"]

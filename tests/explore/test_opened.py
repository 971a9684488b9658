from datamodels.explore.opened import Explorer
from datamodels.query.weights import WeightStore
from datamodels.storage.local import LocalStore
from tests.helpers.waiting import eventually
from tests.report import made


def test_the_tables_of_a_fit_are_made_before_somebody_asks(tmp_path):
    name = made.findings(tmp_path).run.name
    explorer = Explorer(WeightStore(LocalStore(tmp_path)))
    explorer.warm("gone-0123456789ab")  # leaves no trace but a line of the log
    eventually(lambda: not explorer._warming)
    explorer.warm(name)
    eventually(lambda: not explorer._warming)
    assert {"_targets", "_columns", "_by_column", "_described"} <= set(vars(explorer.fit(name)))

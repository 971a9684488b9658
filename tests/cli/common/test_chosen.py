"""What an estimator has chosen for all targets is said wherever the fit is named."""

import numpy as np

from datamodels.cli.common.output import basis_line
from datamodels.cli.common.service import basis
from datamodels.cli.runs import status
from datamodels.fit.job import fits
from datamodels.rpc.clients.query import QueryClient
from datamodels.run import runs
from datamodels.storage.local import LocalStore
from datamodels.testing import fitted, server

CHOICE = {
    "way": "prior + ridge",
    "strength": 0.25,
    "errors": {"lasso": 0.75, "prior alone": 0.5, "prior + ridge": 0.45},
    "features": {"same class": 1.5},
}
TEXT = "prior + ridge, error 0.450 (others: lasso 0.750, prior alone 0.500)"


def test_the_choice_is_stored_served_and_shown(tmp_path):
    store, run = LocalStore(tmp_path), fitted.make_run(d=6, n=3)
    runs.create(store, run)
    plain = fitted.commit_fit(store, run, np.ones((3, 6)), digest="d0")
    record = fitted.commit_fit(store, run, np.ones((3, 6)), digest="d1", choice=CHOICE)
    assert plain.choice is None and "choice" not in plain.document() and not plain.chosen
    assert record.choice == fits.load(store, record).choice == CHOICE and record.chosen == TEXT
    lines = list(status.lines(status.document(store, run, every=True), every=True))
    assert [line for line in lines if "chosen" in line] == [f"chosen by cross-validation: {TEXT}"]
    with server.serve(store) as address, QueryClient(address) as client:
        answer = client.predict(run.name, np.zeros((1, 1), dtype=np.uint8))
    assert answer.provenance.chosen == basis(answer)["chosen"] == TEXT
    assert basis_line(basis(answer)).endswith(f"; chosen by cross-validation: {TEXT}")

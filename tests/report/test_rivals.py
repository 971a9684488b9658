import json

import pytest

from datamodels.errors import InputError
from datamodels.report import page, rivals
from datamodels.rivals.compare import LDS, UNSURE, flips_at
from tests.report import made


def row(method, lds, flips, ahead=None):
    figures = {LDS: {"value": lds, "interval": [lds - 0.1, lds + 0.1]}, UNSURE: None}
    figures |= {flips_at(k): {"value": share, "interval": [share - 0.05, share + 0.05]} for k, share in flips.items()}
    if ahead is not None:
        figures[LDS]["less_datamodels"] = {"value": ahead, "interval": [ahead - 0.01, ahead + 0.01]}
    return {"method": method, "models": 20, "seconds": 1.5, "figures": figures, "targets": {LDS: 5}}


ROWS = [row("datamodels", 0.6, {10: 0.2, 80: 0.4}), row("<trac_in>", 0.7, {10: 0.1, 80: 0.3}, ahead=0.1)]


def test_a_rival_that_wins_is_shown_winning(tmp_path):
    path = tmp_path / "compared.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    text = page.html(made.findings(tmp_path / "store"), rivals.read(path))
    shown = "".join(made.parsed(text).texts)
    assert "<trac in>" in shown and "0.70* 0.60 to 0.80" in shown and "0.60 0.50 to 0.70" in shown
    assert "80 taken out" in shown and rivals.body(ROWS).count("<circle") == 4


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no", json.dumps(ROWS[0] | {"figures": {}}), json.dumps(ROWS)])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match="is not what `datamodels compare RUN --json` prints"):
        rivals.read(tmp_path / "file")
    with pytest.raises(InputError, match="No such file"):
        rivals.read(tmp_path / "none")

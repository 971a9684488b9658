from datamodels.report import baselines, page
from tests.baselines.test_compare import ROWS
from tests.report import made


def test_a_baseline_that_wins_is_shown_winning(tmp_path):
    text = page.html(made.findings(tmp_path / "store"), compared=ROWS)
    shown = "".join(made.parsed(text).texts)
    assert "<trac in>" in shown and "0.70* 0.60 to 0.80" in shown and "0.60 0.50 to 0.70" in shown
    assert "80 removed" in shown and baselines.body(ROWS).count("<circle") == 4


def test_lds_alone_has_no_chart_of_flips():
    rows = [row | {"figures": {"lds": row["figures"]["lds"], "unsure": None}} for row in ROWS]
    text = baselines.body(rows)
    assert "0.70*" in text and "flip" not in text and text.count('class="panel') == 1


def test_a_handful_of_subsets_is_said_to_be_too_few():
    rows = [row | {"few": "5 unseen subsets are too few"} for row in ROWS]
    assert "<strong>5 unseen subsets are too few.</strong>" in baselines.body(rows)
    assert "<strong>" not in baselines.body(ROWS)

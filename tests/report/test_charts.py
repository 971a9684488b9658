import re

import numpy as np
import pytest

from datamodels.report import charts
from tests.report import made


def test_a_histogram_has_a_bar_for_each_count():
    values = np.array([0.61, 0.62, 0.91, -0.3, 1.02])
    text = charts.histogram(values, 0.46, "of <targets>")
    made.parsed(text)
    counts = [int(count) for count in re.findall(r"<title>(\d+) targets", text)]
    assert sum(counts) == 5 and max(counts) == 2 and "of &lt;targets&gt;" in text and "LDS 0.460" in text
    assert ">-0.2<" in text and ">0.0<" in text and ">-0.0<" not in text
    wide = charts.histogram(np.array([-0.95, 0.5]), 0.1, "correlations")
    assert ">-0.8<" in wide and ">0.0<" in wide and ">-0.7<" not in wide


@pytest.mark.parametrize("values", [{}, {"train": 0.0}, {"<fit>": 2.0, "train": 1.0}])
def test_bars_are_as_long_as_their_values(values):
    text = charts.bars(values, "seconds", "s")
    made.parsed(text)
    widths = [float(width) for width in re.findall(r' width="([\d.]+)"', text)]
    assert len(widths) == len(values) and (len(widths) < 2 or widths[0] == pytest.approx(2 * widths[1]))


def test_stairs_rise_where_the_share_does():
    text = charts.steps([0, 2, 10], [0.0, 0.5, 0.75], [0.0, 0.4, 0.6], [0.1, 0.6, 0.9], "share", ("taken out", "wrong"))
    made.parsed(text)
    points = re.search(r'class="line" points="([^"]+)"', text)[1].split()
    heights = [charts.HEIGHT - float(point.split(",")[1]) for point in points]
    assert heights == pytest.approx([0, 0, 100, 100, 150])


@pytest.mark.parametrize("least, step", [(0.1, 1), (1, 1), (3, 5), (46.5, 50), (51, 100), (1000, 1000)])
def test_ticks_are_round(least, step):
    assert charts._round_step(least) == step

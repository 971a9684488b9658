import re

from datamodels.analyze.quality import trend
from datamodels.report import learning
from tests.analyze.quality.test_curve import DIGITS, points_of
from tests.report import made


def drawn(points):
    text = learning.svg(points, trend.ahead(points))
    made.parsed(text)
    return text


def test_every_point_is_drawn_higher_the_better_and_the_trend_beyond():
    points = points_of(DIGITS)
    text = drawn(points)
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', text)]
    assert len(heights) == len(points) and heights == sorted(heights, reverse=True)
    assert "24,000" in text and "48,000" in text and "<polygon" in text
    assert "12,000 models: LDS 0.927" in text


def test_few_points_have_no_trend():
    text = drawn(points_of({100: (-0.15, 0.1), 200: (0.3, 0.05)}))
    assert "<polyline" not in text and "400" not in text and ">-0.3<" in text
    assert ">0.0<" in text and ">-0.0<" not in text

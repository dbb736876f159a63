"""Charts: every point inside the frame, and larger values higher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.reporting.charts import line_chart

values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=8))
def test_points_lie_inside_the_frame(points):
    chart = line_chart("loss", {"run": points}, "step")
    for place in chart.lines[0].points.split():
        x, y = map(float, place.split(","))
        assert chart.left <= x <= chart.right
        assert 0 <= y <= chart.bottom


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.0, 3.5), (-10.0, 400.0)])
def test_larger_values_lie_higher(low, high):
    chart = line_chart("loss", {"run": [(0.0, low), (1.0, high)]}, "step")
    first, last = (tuple(map(float, place.split(","))) for place in chart.lines[0].points.split())
    assert first[0] < last[0]
    assert first[1] > last[1]

"""The bench of serving, on the bundled model: every case writes what transformers writes."""

import pytest

from workbench.speed.serving import bench


@pytest.mark.slow
def test_the_bench_is_exact_and_many_streams_pay():
    rows = bench(lambda message: None, ["shelf-base"])
    assert [row["exact"] for row in rows] == [True] * 3
    assert rows[1]["times_one_stream"] > 1.5 and rows[2]["ratio"] > 1

"""The three-stage schedule, as fine-tuning has it."""

import pytest

from modeling_data2vec.trainers.runs.schedules import tri_stage


def test_the_end_is_chosen():
    factor = tri_stage(100, (0.1, 0.4, 0.5), 0.05)
    assert [round(factor(step), 4) for step in (0, 10, 50, 75, 100)] == [0.01, 1.0, 1.0, 0.2236, 0.05]
    with pytest.raises(ValueError, match="tri_stage_end is 0, but must be above 0"):
        tri_stage(100, (0.1, 0.4, 0.5), 0)

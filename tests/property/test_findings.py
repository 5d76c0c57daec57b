"""Whatever a source says of a finding, it is refused or lies in its image, repaired by name."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mammoscope.cohort.faults import FINDING_REASONS
from mammoscope.cohort.locate import locate
from mammoscope.cohort.sources.listing import ListedFinding

numbers = st.floats() | st.integers(-50, 400).map(float)
sizes = st.tuples(st.integers(-1, 400), st.integers(-1, 400))
findings = st.builds(
    ListedFinding,
    origin=st.just("table.csv"),
    box=st.none() | st.tuples(numbers, numbers, numbers, numbers),
    contour=st.none() | st.lists(numbers, max_size=9).map(tuple),
    circle=st.none() | st.tuples(numbers, numbers, numbers),
    drawn_on=st.none() | sizes,
)


@given(
    findings,
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.sampled_from(["repair", "drop", "refuse"]),
)
def test_a_finding_is_refused_or_lies_in_its_image(finding, size, rule):
    located = locate([finding], Path(), "image", size, rule)
    assert len(located.rows) + len(located.rejects) == 1
    assert len(located.notes) == sum(len(row["repaired"] or ()) for row in located.rows)
    assert not located.notes or rule == "repair"
    for row in located.rows:
        if row["shape"] is None:
            assert finding.box is finding.contour is finding.circle is None
            continue
        box = [row[side] for side in ("x_min", "y_min", "x_max", "y_max")]
        assert all(math.isfinite(value) for value in box)
        assert 0 <= box[0] < box[2] <= size[1]
        assert 0 <= box[1] < box[3] <= size[0]
    for reject in located.rejects:
        assert reject.reason in FINDING_REASONS
        assert "cannot be" in reject.message or (rule != "repair" and "is wrong" in reject.message)

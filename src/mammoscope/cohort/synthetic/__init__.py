"""Synthetic screening exams: anatomy, lesions, acquisition, population. Never a real patient.

``comparison`` and ``likeness`` measure what is drawn against real rates and real pictures: the
benchmarks print them, and tests hold the generator to them.
"""

from mammoscope.cohort.synthetic.acquisition import Profile
from mammoscope.cohort.synthetic.writer import SyntheticSummary, write_cohort, write_exam

__all__ = ["Profile", "SyntheticSummary", "write_cohort", "write_exam"]

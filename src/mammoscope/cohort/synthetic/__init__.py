"""Synthetic screening exams: anatomy, lesions, acquisition, population. Never a real patient."""

from mammoscope.cohort.synthetic.acquisition import Profile
from mammoscope.cohort.synthetic.writer import SyntheticSummary, write_cohort, write_exam

__all__ = ["Profile", "SyntheticSummary", "write_cohort", "write_exam"]

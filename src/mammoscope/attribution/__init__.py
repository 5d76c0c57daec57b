"""Whether heatmaps explain: a run's heat beside lesions, Grad-CAM, and what hiding it does."""

from mammoscope.attribution.explanation import Explanation, explain_run
from mammoscope.attribution.page import summary_rows as explanation_rows

__all__ = ["Explanation", "explain_run", "explanation_rows"]

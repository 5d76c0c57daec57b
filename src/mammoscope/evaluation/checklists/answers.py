"""Every answer that a run can give, by the names that the lists use."""

from __future__ import annotations

from collections.abc import Callable

from mammoscope.evaluation.checklists import about_data, about_model, about_results
from mammoscope.evaluation.evidence import Evidence

__all__ = ["ANSWERS"]

Answer = Callable[[Evidence], str | None]

#: An answer is a sentence from the run's evidence, or ``None`` where there is none.
ANSWERS: dict[str, Answer] = {
    function.__name__: function
    for module in (about_data, about_model, about_results)
    for function in (getattr(module, name) for name in module.__all__)
}

"""Every answer that a run can give, by the names that the lists use."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from mammoscope.config import Task
from mammoscope.evaluation.checklists import (
    about_anomaly,
    about_data,
    about_lesions,
    about_model,
    about_results,
    about_stages,
)
from mammoscope.evaluation.evidence import Evidence

__all__ = ["answers_of"]

#: An answer is a sentence from the run's evidence, or ``None`` where there is none.
Answer = Callable[[Evidence], str | None]

_OF_ALL = (about_data, about_model, about_results)
# Where the answer of a task differs, its own stands in place of that of the same name.
_OWN: dict[Task, tuple[ModuleType, ...]] = {
    "classify": (),
    "detect": (about_lesions,),
    "segment": (about_lesions,),
    "segment-then-classify": (about_stages,),
    "anomaly": (about_anomaly,),
}


def answers_of(task: Task) -> dict[str, Answer]:
    """Return the answers that a run of a task can give, by name."""
    return {
        name: getattr(module, name) for module in (*_OF_ALL, *_OWN[task]) for name in module.__all__
    }

"""How long export and scoring took, as a run's record tells it."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["tell_timings"]


def tell_timings(facts: dict[str, Any], begun: float, exported: float) -> None:
    """Add to a run's record what its export took, and what scoring has taken since.

    Args:
        facts: What ``run.json`` is to hold; ``timings_s`` is completed.
        begun: When the export began, by ``time.perf_counter``.
        exported: How many seconds it took.
    """
    facts["timings_s"] = {
        **facts.get("timings_s", {}),
        "export": round(exported, 2),
        "score": round(time.perf_counter() - begun - exported, 2),
    }

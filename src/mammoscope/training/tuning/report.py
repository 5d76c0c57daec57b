"""What a study found: ``best.yaml``, ``report.json`` and the page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from mammoscope.artefacts import write_atomically, write_json
from mammoscope.config import Config
from mammoscope.config.tuning import TuneConfig
from mammoscope.training.tuning.page import render_page
from mammoscope.training.tuning.space import config_of

__all__ = ["write_report"]

# Below this many complete trials an importance is the accident of a few draws.
_LEAST = 8
# What a classifier obeys; of the other sections only what is not the default is worth a line.
_SECTIONS = {"task", "model", "augment", "train", "lesions", "evaluation"}


def write_report(
    folder: Path, record: dict[str, Any], settings: TuneConfig, study: optuna.Study
) -> dict[str, Any]:
    """Write what follows from the trials so far; returns what ``report.json`` holds."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    best = max(complete, key=lambda t: (_value(t), -t.number)) if complete else None
    importances, note = _importances(study, settings, complete)
    report = {
        **record,
        "kind": "study report",
        "objective": settings.objective,
        "counts": {
            state.name.lower(): sum(t.state == state for t in trials)
            for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        },
        "best": None if best is None else _row(best),
        "trials": [_row(trial) for trial in trials],
        "importances": importances,
        "notes": [note] if note else [],
    }
    if best is not None:
        _write_best(folder / "best.yaml", settings, best, report)
    with write_atomically(folder / "index.html") as temporary:
        temporary.write_text(render_page(report), encoding="utf-8")
    write_json(folder / "report.json", report)
    return report


def _write_best(
    path: Path, settings: TuneConfig, best: FrozenTrial, report: dict[str, Any]
) -> None:
    """Write the best trial's settings as a file that ``train --config`` takes."""
    config = config_of(settings, best.user_attrs["settings"])
    plain = Config()
    told = {name for name in Config.model_fields if getattr(config, name) != getattr(plain, name)}
    values = config.model_dump(mode="json", include=_SECTIONS | told)
    kind = "SYNTHETIC images, " if report["synthetic"] else ""
    head = (
        f"# Trial {best.number} of a study of {len(report['trials'])}: validation "
        f"{settings.objective} {_value(best):.4f} ({kind}fold {report['fold']}).\n"
        "# The best of many trials on one fold flatters itself: measure it on the test split.\n"
    )
    with write_atomically(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _row(trial: FrozenTrial) -> dict[str, Any]:
    began, ended = trial.datetime_start, trial.datetime_complete
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "reason": trial.user_attrs.get("reason"),
        "settings": trial.user_attrs.get("settings", {}),
        "by_epoch": [trial.intermediate_values[k] for k in sorted(trial.intermediate_values)],
        "seconds": None if not (began and ended) else round((ended - began).total_seconds(), 1),
    }


def _importances(
    study: optuna.Study, settings: TuneConfig, complete: list[FrozenTrial]
) -> tuple[dict[str, dict[str, float]], str]:
    """Return each key's share of what the objective varied by, two ways, or why there is none."""
    if len(complete) < _LEAST:
        return {}, (
            f"Importances are left out: {len(complete)} trials are complete, and {_LEAST} are the "
            "fewest to tell them from."
        )
    if len({_value(trial) for trial in complete}) == 1:
        return {}, "Importances are left out: all complete trials reached the same objective."
    evaluators = {
        "fanova": optuna.importance.FanovaImportanceEvaluator(seed=settings.seed),
        "mean_decrease_impurity": optuna.importance.MeanDecreaseImpurityImportanceEvaluator(
            seed=settings.seed
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: {
                key: float(share)
                for key, share in optuna.importance.get_param_importances(
                    study, evaluator=evaluator
                ).items()
            }
            for name, evaluator in evaluators.items()
        }, ""


def _value(trial: FrozenTrial) -> float:
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return float(trial.value)

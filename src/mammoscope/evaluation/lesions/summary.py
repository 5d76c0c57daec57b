"""The table of a report on lesions, for the terminal."""

from __future__ import annotations

import re
from typing import Any

from mammoscope.evaluation.measures import estimated
from mammoscope.evaluation.run_folder import Report
from mammoscope.pages import written_score

__all__ = ["ap_name", "froc_titles", "measures_of", "summary_rows"]


def froc_titles(report: dict[str, Any]) -> dict[str, str]:
    """Return the names for people of what the FROC curve is read at, in order."""
    rates = [f"{rate:g}" for rate in report["evaluation"]["froc_false_positives"]]
    told = {}
    for rate in rates:
        counted = "false positive" if rate == "1" else "false positives"
        told[f"sensitivity_at_{rate}"] = f"Sensitivity at {rate} {counted} per image"
    return told | {"mean_sensitivity": f"Mean of these ({', '.join(rates)})"}


def ap_name(report: dict[str, Any]) -> str:
    """Return what the average precision is called: mAP is a mean over kinds that are told apart."""
    return "mAP" if report["detection"]["average_precision"]["mean"] else "AP"


def measures_of(
    detection: dict[str, Any], overlap: dict[str, Any] | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what is told of lesions under one name each, for those who keep track of runs."""
    precision = detection["average_precision"]["mean"] or detection["average_precision"]["all"]
    cut_off = detection["cut_off"]["measured"]
    told = {
        **{k: v for k, v in detection["froc"]["lesion"].items() if isinstance(v, dict)},
        "sensitivity_at_cut_off": cut_off["sensitivity"]["lesion"],
        "false_positives_per_image": cut_off["false_positives_per_image"],
        **{name: precision[name] for name in ("ap50", "ap")},
        **({} if overlap is None else overlap["window"]),
    }
    ends = ("value", "low", "high")
    return {"lesion": {k: {end: metric[end] for end in ends} for k, metric in told.items()}}


def summary_rows(report: Report) -> list[list[str]]:
    """Return header and rows: measure, then a column for lesions, images, breasts and exams."""
    made = report.report
    found, units = made["detection"], list(made["detection"]["froc"])
    rows = [[f"measure ({made['evaluation']['confidence']:.0%} interval)", *units]]
    rows.append(["n (with a lesion)", *(str(found["froc"][unit]["n"]) for unit in units)])
    for name, title in froc_titles(made).items():
        # Five columns are to fit a terminal.
        short = re.sub(r" false positives? per image", " FP/image", title)
        rows.append([short, *(estimated(name, found["froc"][unit][name]) for unit in units)])
    cut_off = found["cut_off"]["measured"]
    rows.append(
        [
            f"Sensitivity at cut-off {written_score(found['cut_off']['threshold'], 4)}",
            *(estimated("sensitivity", cut_off["sensitivity"][unit]) for unit in units),
        ]
    )

    def single(title: str, name: str, metric: dict[str, Any]) -> None:
        rows.append([title, estimated(name, metric), *[""] * (len(units) - 1)])

    rate = cut_off["false_positives_per_image"]
    single("FP/image there", "false_positives", rate)
    precision = found["average_precision"]["mean"] or found["average_precision"]["all"]
    single(f"{ap_name(made)}, IoU 0.5", "ap50", precision["ap50"])
    single(f"{ap_name(made)}, IoU 0.5 to 0.95", "ap", precision["ap"])
    if (overlap := made["overlap"]) is not None:
        single("Dice around the lesion", "dice", overlap["window"]["dice"])
        single("Dice, whole image", "dice", overlap["image"]["dice"])
        single("Sensitivity of masks", "sensitivity", overlap["sensitivity"])
        rate = overlap["false_positives_per_image"]
        single("False parts of masks/image", "false_positives", rate)
        distance = overlap["window"]["hausdorff_95"]
        single(f"Hausdorff 95, {overlap['unit']}", "hausdorff_95", distance)
    if made["levels"]:
        area = {k: estimated("auroc", v["metrics"]["auroc"]) for k, v in made["levels"].items()}
        rows.append([f"AUROC ({made['label']})", *(area.get(unit, "") for unit in units)])
    return rows

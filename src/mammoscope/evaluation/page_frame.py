"""The frame of every report's page: head, notices, how the run was made, what lies beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from mammoscope.pages import Html, document, element, house_style, joined
from mammoscope.results import RESEARCH_NOTICE

__all__ = ["framed", "report_page"]

# Names for people of what an epoch is the best by, where a run of an earlier version tells none.
_MEASURES = {"auroc": "AUROC"}
_MEASURED_ON_SYNTHETIC = (
    "Every figure on this page was measured on generated pictures, enriched with cancers. It says "
    "that the software works, and nothing about women."
)
_BESIDE = (
    "Beside this page lie model_card.html, checklists.html with the rows of CLAIM 2024 and "
    "TRIPOD+AI that this run answers, and report.json with every figure."
)


def framed(
    title: str, heading: str, body: Iterable[Html | None], *, synthetic: str | None, style: str
) -> str:
    """Return a page with its head and notices.

    Args:
        title: Of the window.
        heading: Of the page.
        body: What stands below; ``None`` is left out.
        synthetic: What is to be said of generated images; ``None`` where there are none.
        style: CSS beside that of the house.
    """
    banner = None
    if synthetic is not None:
        title = f"SYNTHETIC · {title}"
        bold = element("strong", "SYNTHETIC images.")
        banner = element("p", bold, f" {synthetic}", class_="banner")
    header = element(
        "header",
        element("h1", heading),
        element("p", RESEARCH_NOTICE, class_="notice"),
        banner,
    )
    return document(title, joined([header, element("main", *body)]), house_style() + style)


def report_page(
    report: dict[str, Any],
    heading: str,
    sections: Iterable[tuple[str, Html | None]],
    *,
    headlines: Sequence[Html] = (),
    notes: Iterable[str] = (),
    facts: dict[str, Any] | None = None,
    style: str = "",
) -> str:
    """Return a report as one self-contained page.

    Args:
        report: What ``report.json`` holds.
        heading: Of the page.
        sections: Title and body; those of ``None`` are left out.
        headlines: Figures in large letters.
        notes: Sentences that stand above all sections.
        facts: How the run came about beside what is told of every run; its task by default.
        style: CSS of this kind of report.
    """
    run = report["run"]
    made = facts or {"Task": run["config"].get("task", "classify")}
    parts = [
        element("div", *headlines, class_="headlines") if headlines else None,
        *(element("p", _sentence(note), class_="note") for note in notes),
        *(
            joined([element("h2", name), body])
            for name, body in (*sections, ("How it was made", _facts_table(run, made)))
            if body is not None
        ),
        element("p", _BESIDE, class_="note"),
        element(
            "details",
            element("summary", "Full configuration"),
            element("pre", _plain_config(run["config"])),
        ),
    ]
    own = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    synthetic = _MEASURED_ON_SYNTHETIC if report["synthetic"] else None
    return framed("mammoscope report", heading, parts, synthetic=synthetic, style=own + style)


def _sentence(note: str) -> str:
    """Begin a note with a capital, but for the name of a setting or file, and end it."""
    first = note.split(maxsplit=1)[0] if note.strip() else ""
    if first.rstrip(",:;").isalpha():
        note = note[0].upper() + note[1:]
    return note if note.endswith((".", "!", "?", ":")) else f"{note}."


def _facts_table(run: dict[str, Any], own: dict[str, Any]) -> Html:
    """Return how a run came about."""
    facts = {
        **own,
        "Input": f"{run['preprocess']['height']} x {run['preprocess']['width']} pixels, "
        f"{run['preprocess']['bits']} bits",
        "Images": ", ".join(f"{count} {part}" for part, count in run["counts"].items()),
        **_trained(run),
        "Seed": run["seed"],
        "Time": ", ".join(f"{name} {value:.0f} s" for name, value in run["timings_s"].items()),
        "Model": f"model.onnx, sha256 {run['hashes']['model.onnx'][:16]}…",
        "Cohort": f"manifest sha256 {run['cohort']['manifest_sha256'][:16]}…",
        "Software": f"mammoscope {run['package_version']}, "
        f"code {run['code_version'] or 'installed'}",
    }
    if "waiting" in run:
        facts["Waiting for data"] = f"{run['waiting']:.1%} of the training time"
    rows = (
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in facts.items()
    )
    return element("table", element("tbody", *rows))


def _trained(run: dict[str, Any]) -> dict[str, object]:
    name, value = next((name, value) for name, value in run["best"].items() if name != "epoch")
    plain = _MEASURES.get(name, name.replace("_", " "))
    told = f"{run.get('measure', {'title': plain})['title']} {value:.3f}"
    if run["fold"] is None:
        return {
            "Folds": f"{len(run['folds'])}, each validated on patients that it had not seen",
            "Epochs": f"{run['epochs']} in all (out-of-fold {told})",
        }
    return {
        "Fold that validates": run["fold"],
        "Epochs": f"{run['epochs']}, best {run['best']['epoch'] + 1} (validation {told})",
    }


def _plain_config(config: dict[str, Any]) -> str:
    """Write a configuration line by line."""
    lines = []
    for section, values in config.items():
        if not isinstance(values, dict):
            lines.append(f"{section}: {values}")
            continue
        lines.append(f"{section}:")
        lines += [f"  {key}: {value}" for key, value in values.items()]
    return "\n".join(lines)

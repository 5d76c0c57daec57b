"""The report as one self-contained page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from mammoscope.evaluation.measures import written
from mammoscope.evaluation.page_choices import (
    calibration_section,
    folds_section,
    points_section,
)
from mammoscope.evaluation.page_groups import (
    baseline_section,
    estimate,
    kind,
    span,
    subgroup_section,
    weighted_to,
)
from mammoscope.evaluation.page_pointing import pointing_section
from mammoscope.pages import Html, document, element, house_style, joined, table
from mammoscope.results import RESEARCH_NOTICE

__all__ = [
    "banner",
    "confusion_table",
    "facts_table",
    "figures_of",
    "headline",
    "metrics_table",
    "plain_config",
    "render_page",
    "unique_ids",
]

# Names for people of what an epoch is the best by.
_MEASURES = {"auroc": "AUROC"}
_CAPTIONS = {
    "roc": (
        "ROC curve",
        "How many cancers are found (sensitivity) against how many healthy are called "
        "(1 - specificity), for every threshold. The band holds 95 % of patient-level bootstrap "
        "replicates. Dots are the operating points that validation images chose.",
    ),
    "precision_recall": (
        "Precision and sensitivity",
        "Of those called, how many have cancer. It depends on the share of cancers (dashed). That "
        "of these data is far above screening's wherever a cohort is enriched; "
        "evaluation.prevalence names another.",
    ),
    "reliability": (
        "Reliability",
        "Where scores are chances, the dots lie on the diagonal: bins of equal size, their mean "
        "score against their share of positives, with intervals that count patients. Hollow dots "
        "are the same images before calibration. Where scores lie near 0 both axes are logarithmic "
        "and a share of 0 stands on the floor.",
    ),
    "scores": (
        "Distribution of scores",
        "The two classes apart; lines are the operating points.",
    ),
}


def render_page(
    report: dict[str, Any], figures: dict[str, dict[str, str]], shown: dict[str, str]
) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``report.json`` holds.
        figures: SVG text by level and name.
        shown: Names of the metrics for people, in order.
    """
    title = ("SYNTHETIC · " if report["synthetic"] else "") + "mammoscope report"
    header = element(
        "header",
        element("h1", "Evaluation of a run"),
        element("p", RESEARCH_NOTICE, class_="notice"),
        banner(report),
    )
    levels = report["levels"]
    main = element(
        "main",
        element("div", *(headline(report, level) for level in levels), class_="headlines"),
        *(element("p", note, class_="note") for note in report["notes"]),
        element("h2", "Measures"),
        metrics_table(report, shown),
        element("h2", "What pixels add"),
        baseline_section(report),
        element("h2", "Who was called"),
        element("div", *(confusion_table(report, level) for level in levels), class_="pair"),
        element("h2", "Operating points"),
        points_section(report),
        element("h2", "Calibration"),
        calibration_section(report),
        folds_section(report),
        element("h2", "Subgroups"),
        subgroup_section(report),
        element("h2", "Where the heat lies"),
        pointing_section(report),
        element("h2", "Figures"),
        *(figures_of(level, pictures) for level, pictures in figures.items()),
        element("h2", "How it was made"),
        facts_table(report["run"]),
        element(
            "p",
            "Beside this page lie model_card.html, checklists.html with the rows of CLAIM 2024 and "
            "TRIPOD+AI that this run answers, and report.json with every figure.",
            class_="note",
        ),
        element(
            "details",
            element("summary", "Full configuration"),
            element("pre", plain_config(report["run"]["config"])),
        ),
    )
    own = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    return document(title, joined([header, main]), house_style() + own)


def banner(report: dict[str, Any]) -> Html | None:
    """Return the words that stand above figures of generated images."""
    if not report["synthetic"]:
        return None
    return element(
        "p",
        element("strong", "SYNTHETIC images."),
        " Every figure on this page was measured on generated pictures, enriched with cancers. It "
        "says that the software works, and nothing about women.",
        class_="banner",
    )


def headline(report: dict[str, Any], level: str) -> Html:
    """Return a level's AUROC in large letters, and what it was measured on."""
    values = report["levels"][level]
    auroc = values["metrics"]["auroc"]
    where = "held-out test patients" if report["measured_on"] == "test" else "validation patients"
    told = (
        f"{span('auroc', auroc)}; {values['n']} {kind(report)}{level}s of {values['patients']} "
        f"{where}, {values['positives']} with {report['label']}"
    )
    value = element("b", written("auroc", auroc["value"]))
    return element("p", value, f" AUROC by {level} ", element("span", told), class_="headline")


def metrics_table(report: dict[str, Any], shown: dict[str, str]) -> Html:
    """Return a row per measure, a column per level."""
    levels = report["levels"]
    rows = (
        (text, *(estimate(name, values["metrics"][name]) for values in levels.values()))
        for name, text in shown.items()
    )
    caption = joined(
        [
            f"Measured on {kind(report)}{report['measured_on']} images at the frozen threshold of ",
            element("i", report["primary"]),
            f"{weighted_to(report)}; {report['evaluation']['confidence']:.0%} intervals from "
            f"{report['evaluation']['bootstrap']} bootstrap replicates over patients.",
        ]
    )
    return table(("", *levels), rows, caption)


def confusion_table(report: dict[str, Any], level: str) -> Html:
    """Return who was called at the primary threshold of a level."""
    values = report["levels"][level]
    counts = values["confusion"]

    def row(title: str, *cells: tuple[str, str]) -> Html:
        counted = (element("td", counts[name], class_=class_) for name, class_ in cells)
        return element("tr", element("th", title, scope="row"), *counted)

    caption = f"{kind(report)}{level}s, threshold {values['threshold']:.4f}"
    heads = (element("th", text, scope="col") for text in ("called", "not called"))
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", element("th"), *heads)),
        element(
            "tbody",
            row("positive", ("tp", "good"), ("fn", "bad")),
            row("negative", ("fp", "bad"), ("tn", "good")),
        ),
        class_="confusion",
    )


def figures_of(level: str, pictures: dict[str, str]) -> Html:
    """Return the figures of one level."""
    made = []
    for name, svg in pictures.items():
        title, caption = _CAPTIONS[name]
        plate = element(
            "div",
            unique_ids(svg, level, name),
            class_="plate",
            role="img",
            aria_label=f"{title}, {level} level",
        )
        made.append(
            element(
                "figure", plate, element("figcaption", element("b", f"{title}."), f" {caption}")
            )
        )
    return joined([element("h3", f"By {level}"), element("div", *made, class_="figures")])


def unique_ids(svg: str, level: str, name: str) -> Html:
    """Keep clip paths of several figures on one page apart."""
    prefix = f"{level}-{name}-"
    return Html(
        svg.replace('id="', f'id="{prefix}')
        .replace("url(#", f"url(#{prefix}")
        .replace('href="#', f'href="#{prefix}')
    )


def facts_table(run: dict[str, Any]) -> Html:
    """Return how a run came about."""
    task = run["config"].get("task", "classify")
    classifier = {"Backbone": run["config"]["model"]["backbone"]}
    facts = {
        **(classifier if task == "classify" else {"Task": task}),
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
    best = run["best"]
    measure, value = next((name, value) for name, value in best.items() if name != "epoch")
    told = f"{_MEASURES.get(measure, measure.replace('_', ' '))} {value:.3f}"
    if run["fold"] is None:
        return {
            "Folds": f"{len(run['folds'])}, each validated on patients that it had not seen",
            "Epochs": f"{run['epochs']} in all (out-of-fold {told})",
        }
    return {
        "Fold that validates": run["fold"],
        "Epochs": f"{run['epochs']}, best {best['epoch'] + 1} (validation {told})",
    }


def plain_config(config: dict[str, Any]) -> str:
    """Write a configuration line by line."""
    lines = []
    for section, values in config.items():
        if not isinstance(values, dict):
            lines.append(f"{section}: {values}")
            continue
        lines.append(f"{section}:")
        lines += [f"  {key}: {value}" for key, value in values.items()]
    return "\n".join(lines)

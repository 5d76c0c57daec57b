"""The report as one self-contained page."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from mammoscope.evaluation.measures import written
from mammoscope.evaluation.page_groups import baseline_section, subgroup_section
from mammoscope.pages import house_style
from mammoscope.results import RESEARCH_NOTICE

__all__ = ["render_page"]

_CAPTIONS = {
    "roc": (
        "ROC curve",
        "How many cancers are found (sensitivity) against how many healthy are called "
        "(1 - specificity), for every threshold. The band holds 95 % of patient-level bootstrap "
        "replicates. Dots are the operating points that validation images chose.",
    ),
    "precision_recall": (
        "Precision and sensitivity",
        "Of those called, how many have cancer. It depends on the share of cancers in these data "
        "(dashed), which is far above that of screening wherever a cohort is enriched.",
    ),
    "reliability": (
        "Reliability",
        "If scores were probabilities, the dots would lie on the diagonal. Scores of a weighted "
        "loss usually lie above it: read them as ranks.",
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
    synthetic = bool(report["synthetic"])
    template = Template(_resource("report.html"))
    run = report["run"]
    return template.substitute(
        title=("SYNTHETIC · " if synthetic else "") + "mammoscope report",
        style=house_style() + _resource("report.css"),
        banner=_banner(synthetic=synthetic),
        notice=escape(RESEARCH_NOTICE),
        headline=_headline(report),
        notes="".join(f"<p class='note'>{escape(note)}</p>" for note in report["notes"]),
        metrics=_metrics_table(report, shown),
        confusions="".join(_confusion(report, level) for level in report["levels"]),
        baseline=baseline_section(report),
        subgroups=subgroup_section(report),
        points="".join(_points_table(report, level) for level in report["levels"]),
        figures="".join(_figures(level, figures[level]) for level in figures),
        facts=_facts(run),
        config=escape(_plain(run["config"])),
    )


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _banner(*, synthetic: bool) -> str:
    if not synthetic:
        return ""
    return (
        "<p class='banner'><strong>SYNTHETIC images.</strong> Every figure on this page was "
        "measured on generated pictures, enriched with cancers. It says that the software works, "
        "and nothing about women.</p>"
    )


def _headline(report: dict[str, Any]) -> str:
    parts = []
    kind = "synthetic " if report["synthetic"] else ""
    where = "held-out test patients" if report["measured_on"] == "test" else "validation patients"
    for level, values in report["levels"].items():
        auroc = values["metrics"]["auroc"]
        parts.append(
            f"<p class='headline'><b>{written('auroc', auroc['value'])}</b> AUROC by {level} "
            f"<span>{_range(auroc)}; {values['n']} {kind}{level}s of {values['patients']} {where}, "
            f"{values['positives']} with {escape(report['label'])}</span></p>"
        )
    return "".join(parts)


def _metrics_table(report: dict[str, Any], shown: dict[str, str]) -> str:
    levels = report["levels"]
    head = "".join(f"<th scope='col'>{level}</th>" for level in levels)
    rows = "".join(
        f"<tr><th scope='row'>{escape(text)}</th>"
        + "".join(
            f"<td>{_estimate(values['metrics'][name], name)}</td>" for values in levels.values()
        )
        + "</tr>"
        for name, text in shown.items()
    )
    confidence = f"{report['evaluation']['confidence']:.0%}"
    kind = "synthetic " if report["synthetic"] else ""
    caption = (
        f"Measured on {kind}{report['measured_on']} images at the frozen threshold of "
        f"<i>{escape(report['primary'])}</i>; {confidence} intervals from "
        f"{report['evaluation']['bootstrap']} bootstrap replicates over patients."
    )
    return (
        f"<table><caption>{caption}</caption><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _confusion(report: dict[str, Any], level: str) -> str:
    values = report["levels"][level]
    counts = values["confusion"]
    kind = "synthetic " if report["synthetic"] else ""
    return (
        f"<table class='confusion'><caption>{kind}{level}s, threshold "
        f"{values['threshold']:.4f}</caption>"
        "<thead><tr><th></th><th scope='col'>called</th><th scope='col'>not called</th></tr>"
        "</thead>"
        f"<tbody><tr><th scope='row'>positive</th><td class='good'>{counts['tp']}</td>"
        f"<td class='bad'>{counts['fn']}</td></tr>"
        f"<tr><th scope='row'>negative</th><td class='bad'>{counts['fp']}</td>"
        f"<td class='good'>{counts['tn']}</td></tr></tbody></table>"
    )


def _points_table(report: dict[str, Any], level: str) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(point['name'])}</th><td>{point['threshold']:.4f}</td>"
        f"<td>{_estimate(point['chosen_on_validation']['sensitivity'])}</td>"
        f"<td>{_estimate(point['chosen_on_validation']['specificity'])}</td>"
        f"<td>{_estimate(point['measured']['sensitivity'])}</td>"
        f"<td>{_estimate(point['measured']['specificity'])}</td></tr>"
        for point in report["levels"][level]["operating_points"]
    )
    kind = "synthetic " if report["synthetic"] else ""
    return (
        f"<table><caption>Operating points, {kind}{level} level</caption><thead>"
        "<tr><th rowspan='2' scope='col'>target</th><th rowspan='2' scope='col'>threshold</th>"
        "<th colspan='2'>chosen on validation</th>"
        f"<th colspan='2'>measured on {report['measured_on']}</th></tr>"
        "<tr><th scope='col'>sensitivity</th><th scope='col'>specificity</th>"
        "<th scope='col'>sensitivity</th><th scope='col'>specificity</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _figures(level: str, pictures: dict[str, str]) -> str:
    parts = [f"<h3>By {level}</h3><div class='figures'>"]
    for name, svg in pictures.items():
        title, caption = _CAPTIONS[name]
        label = escape(f"{title}, {level} level", quote=True)
        parts.append(
            f"<figure><div class='plate' role='img' aria-label='{label}'>"
            f"{_unique_ids(svg, level, name)}</div>"
            f"<figcaption><b>{title}.</b> {escape(caption)}</figcaption></figure>"
        )
    return "".join([*parts, "</div>"])


def _unique_ids(svg: str, level: str, name: str) -> str:
    """Keep clip paths of several figures on one page apart."""
    prefix = f"{level}-{name}-"
    return (
        svg.replace('id="', f'id="{prefix}')
        .replace("url(#", f"url(#{prefix}")
        .replace('href="#', f'href="#{prefix}')
    )


def _facts(run: dict[str, Any]) -> str:
    best = run["best"]
    facts = {
        "Backbone": run["config"]["model"]["backbone"],
        "Input": f"{run['preprocess']['height']} x {run['preprocess']['width']} pixels, "
        f"{run['preprocess']['bits']} bits",
        "Images": ", ".join(f"{count} {part}" for part, count in run["counts"].items()),
        "Fold that validates": run["fold"],
        "Epochs": f"{run['epochs']}, best {best['epoch'] + 1} "
        f"(validation AUROC {best['auroc']:.3f})",
        "Seed": run["seed"],
        "Time": ", ".join(f"{name} {value:.0f} s" for name, value in run["timings_s"].items()),
        "Model": f"model.onnx, sha256 {run['hashes']['model.onnx'][:16]}…",
        "Cohort": f"manifest sha256 {run['cohort']['manifest_sha256'][:16]}…",
        "Software": f"mammoscope {run['package_version']}, "
        f"code {run['code_version'] or 'installed'}",
    }
    return "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )


def _plain(config: dict[str, Any]) -> str:
    lines = []
    for section, values in config.items():
        lines.append(f"{section}:")
        lines += [f"  {key}: {value}" for key, value in values.items()]
    return "\n".join(lines)


def _estimate(metric: dict[str, float | None], name: str = "") -> str:
    return f"<b>{written(name, metric['value'])}</b> <span>{_range(metric, name)}</span>"


def _range(metric: dict[str, float | None], name: str = "") -> str:
    if metric["low"] is None or metric["high"] is None:
        return ""
    return f"{written(name, metric['low'])} to {written(name, metric['high'])}"

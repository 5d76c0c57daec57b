"""Does the chest wall lie on the side that the laterality says?"""

from __future__ import annotations

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some

__all__ = ["chest_wall_contradicts_laterality"]

# Up to this share may be the breast finder's own mistakes.
_FEW = 0.05


def chest_wall_contradicts_laterality(evidence: Evidence) -> Answer:
    """Images with the chest wall on the other side than a left or right breast has it.

    A left breast is shown with its chest wall on the left of the image. Either laterality is
    wrong, or the image was mirrored, or it was turned by half a circle.
    """
    if isinstance(evidence.images, Skipped):
        return evidence.images
    sides = dict(evidence.manifest.select("image_id", "laterality").iter_rows())
    findings = []
    for machine, images in evidence.by_machine(evidence.images).items():
        judged = [f for f in images if f.chest_wall is not None and sides.get(f.image_id)]
        wrong = [f.image_id for f in judged if f.chest_wall != sides[f.image_id]]
        if wrong:
            findings.append(
                Finding(
                    "chest_wall_contradicts_laterality",
                    Severity.WARNING if len(wrong) > _FEW * len(judged) else Severity.INFO,
                    machine,
                    len(wrong),
                    len(judged),
                    "images",
                    "The chest wall lies on the side of the other breast.",
                    "Check laterality, or whether images were mirrored; prepare orients by the "
                    "image, so training is not harmed, but a mirrored marker misleads a reader.",
                    some(wrong),
                )
            )
    return findings

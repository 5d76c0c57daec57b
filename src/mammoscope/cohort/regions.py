"""Lesions as targets: findings checked anew, filtered, and drawn on the network's grid.

``ingest`` repairs findings or leaves them out, but its tables may come from elsewhere, be merged
or edited, and mask files change. What a network is to find is therefore checked once more before
any work, by the same rule, and every fault is named and counted: those that ``ingest`` met too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.cohort.drawing import BY_INGEST, OUTSIDE, Drawn, draw
from mammoscope.cohort.faults import FINDING_REASONS, Wrong, named_few, refusal
from mammoscope.cohort.findings import read_findings
from mammoscope.cohort.manifest import Reject, read_rejects, source_roots
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import LesionsConfig
from mammoscope.errors import CohortError, Reason
from mammoscope.masks import decode
from mammoscope.preprocessing import Geometry
from mammoscope.types import Bools, Box, ByteImage

__all__ = ["Fault", "Region", "Regions", "regions_of"]

# Names that a message lists one by one.
_EXAMPLES = 3
_LEFT_OUT = "left out by ingest"


@dataclass(frozen=True, slots=True)
class Region:
    """One lesion of a prepared image.

    Attributes:
        finding_id: Name in ``findings.parquet``.
        image_id: The image's name.
        kind: What it is; null where nobody says.
        malignant: Whether it is; null where nobody says.
        box: In original pixels, within the image.
    """

    finding_id: str
    image_id: str
    kind: str | None
    malignant: bool | None
    box: Box


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong with a finding, and what was done.

    Attributes:
        code: A code of :mod:`mammoscope.cohort.faults`, or ``outside_crop``.
        finding_id: Its name; of one that ingest left out that of its image, or of its table.
        sentence: What was found.
        done: ``repaired`` or ``dropped``, ``repaired by ingest`` or ``left out by ingest``.
    """

    code: str
    finding_id: str
    sentence: str
    done: str


class Regions:
    """The lesions of a cohort's prepared images, on the network's grid.

    Args:
        regions: Each with its mask's run lengths.
        size: (H, W) of the grid.
        geometries: Of each image that has a region.
        faults: What was wrong.
        uncertain: Images with a lesion whose place is not known.
        notes: Sentences that a user should read.
    """

    def __init__(
        self,
        regions: Iterable[tuple[Region, Sequence[int]]],
        size: tuple[int, int],
        geometries: dict[str, Geometry],
        *,
        faults: Iterable[Fault] = (),
        uncertain: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self.size = size
        self.faults = tuple(faults)
        self.notes = tuple(notes)
        self.uncertain = frozenset(uncertain)
        self._geometries = geometries
        self._runs: dict[str, Sequence[int]] = {}
        self._by_image: dict[str, list[Region]] = defaultdict(list)
        for region, runs in regions:
            self._runs[region.finding_id] = runs
            self._by_image[region.image_id].append(region)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings had each fault, by ``code: done``."""
        return dict(sorted(Counter(f"{fault.code}: {fault.done}" for fault in self.faults).items()))

    @property
    def dropped(self) -> list[str]:
        """Findings that are not what a table says of them, and are lesions to nobody.

        One outside the crop is none of these: the image has it, and who does not see it misses it.
        """
        wrong = {f.finding_id for f in self.faults if f.done == "dropped" and f.code != OUTSIDE}
        return sorted(wrong)

    def of(self, image_id: str) -> tuple[Region, ...]:
        """Return the lesions of one image, none where it has none."""
        return tuple(self._by_image.get(image_id, ()))

    def boxes(self, image_id: str) -> list[Box]:
        """Return the boxes of one image's lesions on the grid, clipped to it, in order."""
        geometry = self._geometries.get(image_id)
        if geometry is None:
            return []
        return [_on_grid(geometry, region.box) for region in self.of(image_id)]

    def sizes(self) -> list[float]:
        """Return the longer side of every lesion's box, in pixels of the grid."""
        boxes = [box for name in self._by_image for box in self.boxes(name)]
        return [max(box.x_max - box.x_min, box.y_max - box.y_min) for box in boxes]

    def mask(self, region: Region) -> Bools:
        """Return the pixels of the grid that a lesion covers, (H, W) bool; at least one."""
        return decode(self._runs[region.finding_id], self.size)

    def labels(self, image_id: str) -> ByteImage:
        """Return which of an image's lesions covers each pixel of the grid.

        Returns:
            (H, W) uint8: 0 where there is none, else the place in :meth:`of`, from 1; the smaller
            of two that overlap.
        """
        masks = [self.mask(region) for region in self.of(image_id)]
        labels = np.zeros(self.size, dtype=np.uint8)
        for place in sorted(range(len(masks)), key=lambda p: -int(masks[p].sum())):
            labels[masks[place]] = place + 1
        return labels

    def union(self, image_id: str) -> Bools:
        """Return the pixels of the grid that an image's lesions cover, (H, W) bool."""
        covered = np.zeros(self.size, dtype=np.bool_)
        for region in self.of(image_id):
            covered |= self.mask(region)
        return covered


def regions_of(cohort: Path, store: PreparedStore, config: LesionsConfig) -> Regions:
    """Check a cohort's findings and draw those that are targets.

    Args:
        cohort: The cohort folder.
        store: Its prepared images.
        config: Which findings are targets, and what is done with wrong ones.

    Raises:
        CohortError: If there are no findings, none is a target, a source's folder is gone, or
            ``config.faults`` is ``refuse`` and some are wrong, or were when they were ingested.
    """
    images = store.rows()
    findings = _findings(cohort)
    known = images.select("image_id", "source")
    joined = findings.join(known, on="image_id", how="inner", maintain_order="left")
    wanted = joined.filter(_is_target(config))
    roots = _roots(cohort, wanted)
    size = (store.config.height, store.config.width)
    geometries: dict[str, Geometry] = {}
    drawn: list[tuple[Region, Sequence[int]]] = []
    refused = _refused_findings(cohort, set(images["image_id"]))
    faults = [Fault(r.reason, r.image_id or r.path, r.message, _LEFT_OUT) for r in refused]
    lost = {reject.image_id for reject in refused}
    for row in wanted.iter_rows(named=True):
        name = row["image_id"]
        if name not in geometries:
            geometries[name] = store.read_geometry(name)
        made, wrong = draw(row, roots.get(row["source"]), geometries[name], config)
        faults += [_fault(row["finding_id"], w, kept=made is not None) for w in wrong]
        if made is None:
            lost.add(name)
        else:
            drawn.append((_region(row, made), made.runs))
    _judge(faults, drawn, wanted.height, config)
    uncertain = lost | _unplaced(images, joined)
    return Regions(
        drawn,
        size,
        geometries,
        faults=faults,
        uncertain=uncertain,
        notes=_notes(faults, findings.height - joined.height),
    )


def _findings(cohort: Path) -> pl.DataFrame:
    """Read the findings of a cohort that has some."""
    found = read_findings(cohort)
    if not found.height:
        raise CohortError(
            f"{cohort}/findings.parquet has no rows: the source names no lesions, so there is "
            "nothing that a network could learn to find. Use a source with boxes or masks"
        )
    twice = found.filter(pl.col("finding_id").is_duplicated())
    if twice.height or found["finding_id"].null_count():
        named = twice["finding_id"].unique().sort().head(_EXAMPLES).to_list() or ["none"]
        raise CohortError(
            f"{cohort}/findings.parquet: finding_id is not unique ({', '.join(map(str, named))}): "
            "run mammoscope ingest or merge again"
        )
    return found


def _is_target(config: LesionsConfig) -> pl.Expr:
    target = pl.lit(value=True)
    if config.kinds:
        target &= pl.col("kind").is_in(config.kinds).fill_null(value=False)
    if config.malignant_only:
        target &= pl.col("malignant").fill_null(1) != 0
    return target


def _roots(cohort: Path, findings: pl.DataFrame) -> dict[str, Path]:
    """Return the folders below which masks lie; none are needed where there are no masks."""
    masked = findings.filter(pl.col("mask").is_not_null())
    if not masked.height:
        return {}
    roots = source_roots(cohort)
    for name in masked["source"].unique().sort():
        if name not in roots or not roots[name].is_dir():
            where = roots.get(name, name)
            raise CohortError(
                f"{where}, below which masks of {cohort} lie, is no longer there: put it back, or "
                "ingest from where it is now"
            )
    return roots


def _region(row: dict[str, Any], drawn: Drawn) -> Region:
    malignant = row["malignant"]
    return Region(
        row["finding_id"],
        row["image_id"],
        row["kind"],
        None if malignant is None else bool(malignant),
        drawn.box,
    )


def _fault(finding_id: str, wrong: Wrong, *, kept: bool) -> Fault:
    if not kept:
        return Fault(wrong.code, finding_id, wrong.sentence, "dropped")
    if wrong.remedy == BY_INGEST:
        return Fault(wrong.code, finding_id, wrong.sentence, BY_INGEST)
    return Fault(wrong.code, finding_id, wrong.told(repaired=True), "repaired")


def _judge(
    faults: list[Fault],
    drawn: list[tuple[Region, Sequence[int]]],
    wanted: int,
    config: LesionsConfig,
) -> None:
    """Refuse faults where that is asked for, and a cohort of which nothing is left."""
    named = [(fault.code, f"{fault.finding_id}: {fault.sentence}") for fault in faults]
    if faults and config.faults == "refuse":
        left_out = sum(fault.done == _LEFT_OUT for fault in faults)
        wrong = left_out + len({f.finding_id for f in faults if f.done != _LEFT_OUT})
        raise refusal(named, wrong, wanted + left_out, "lesions.faults")
    if not drawn:
        which = f" of kind {', '.join(config.kinds)}" if config.kinds else ""
        raise CohortError(
            f"no finding{which} of a prepared image is left as a target: lesions.kinds and "
            f"lesions.malignant_only let {wanted} through, and none of them has a place"
            + (f"; {named_few([sentence for _, sentence in named])}" if named else "")
        )


def _notes(faults: list[Fault], strays: int) -> list[str]:
    """Say of each fault how many findings had it, what was done, and of one what it was."""
    groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.code, fault.done].append(fault)
    notes = [
        f"{_counted(len(group))} {done} ({code.replace('_', ' ')}), as {group[0].finding_id}: "
        f"{group[0].sentence}"
        for (code, done), group in sorted(groups.items())
    ]
    if strays:
        notes.append(f"{_counted(strays)} left out: not of prepared images")
    return notes


def _counted(findings: int) -> str:
    return f"{findings} finding{'s' if findings > 1 else ''}"


def _refused_findings(cohort: Path, images: set[str]) -> list[Reject]:
    """Return the findings of prepared images that ingest refused.

    Of an annotation that names no image nobody knows whether it is of one. A second copy of an
    image is no finding.
    """
    return [
        reject
        for reject in read_rejects(cohort)
        if reject.stage == "ingest"
        and reject.reason != Reason.DUPLICATE
        and (
            reject.image_id in images or (not reject.image_id and reject.reason in FINDING_REASONS)
        )
    ]


def _unplaced(images: pl.DataFrame, findings: pl.DataFrame) -> set[str]:
    """Return images that are known to have a lesion, while nobody says where all of it is.

    A benign finding on an image with cancer does not say where the cancer is; one of unknown
    nature may be it.
    """
    nowhere = pl.col("x_min").is_null() & pl.col("mask").is_null()
    named = set(findings.filter(nowhere)["image_id"])
    sick = set(images.filter(pl.col("cancer") == 1)["image_id"])
    perhaps = findings.filter(pl.col("malignant").fill_null(1) != 0)
    return named | (sick - set(perhaps["image_id"]))


def _on_grid(geometry: Geometry, box: Box) -> Box:
    """Map a box to the grid and clip it to what the crop fills; a pixel of it always stays."""
    there = geometry.to_network(box)
    x_min = min(max(there.x_min, 0.0), geometry.fitted_width - 1.0)
    y_min = min(max(there.y_min, float(geometry.top)), geometry.top + geometry.fitted_height - 1.0)
    x_max = max(min(there.x_max, float(geometry.fitted_width)), x_min + 1.0)
    y_max = max(min(there.y_max, float(geometry.top + geometry.fitted_height)), y_min + 1.0)
    return Box(x_min, y_min, x_max, y_max)

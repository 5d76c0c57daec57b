"""Several cohorts into one: sources kept apart by name, names made unique, nothing twice.

Images are not touched. Prepared images and splits are not carried over: a patient's part in
one cohort says nothing of the part that she should have in the whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mammoscope.artefacts import check_output, new_folder, sha256_file
from mammoscope.cohort.findings import FINDINGS_SCHEMA, new_findings, read_findings
from mammoscope.cohort.manifest import (
    LABEL_COLUMNS,
    MANIFEST_SCHEMA,
    Reject,
    read_cohort,
    read_eligibility,
    read_manifest,
    read_rejects,
    source_roots,
)
from mammoscope.cohort.sources.listing import safe_id
from mammoscope.cohort.tables import write_tables
from mammoscope.dicom.copies import Copies, keys_of
from mammoscope.errors import CohortError, Reason

__all__ = ["MergeSummary", "Patients", "merge"]

#: Whether equal patient names of two cohorts mean one woman.
Patients = Literal["auto", "same", "apart"]

# What two copies of one image must agree on, where both say it.
_FACTS = ("laterality", "view", *LABEL_COLUMNS)
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """Counts of one merge.

    Attributes:
        sources: The words of the column ``source``.
        images: Images of the whole.
        patients: Patients of the whole.
        findings: Findings of the whole.
        duplicates: Images that were there twice.
        prefixed: Columns whose names were prefixed with the source.
        synthetic: Whether any of it is.
        partly_synthetic: Whether some is and some is not.
    """

    sources: tuple[str, ...]
    images: int
    patients: int
    findings: int
    duplicates: int
    prefixed: tuple[str, ...]
    synthetic: bool
    partly_synthetic: bool


@dataclass(frozen=True, slots=True)
class _Input:
    """One cohort, read and checked.

    Attributes:
        path: Its folder.
        facts: Its ``cohort.json``.
        roots: The folder of each source, by the source's own name.
        rows: Rows of its manifest.
        findings: Rows of its findings, by image.
        rejects: What its ingest refused.
    """

    path: Path
    facts: dict[str, Any]
    roots: dict[str, Path]
    rows: list[_Row]
    findings: dict[str, list[_Row]]
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class _Image:
    """One image on its way into the whole.

    Attributes:
        row: Of the manifest.
        findings: Its own and those of its copies.
        space: Whose names it bears.
        copies: Space and image_id of each copy.
    """

    row: _Row
    findings: list[_Row]
    space: tuple[str, Path]
    copies: list[tuple[tuple[str, Path], str]] = field(default_factory=list)


def merge(
    out: Path, cohorts: Sequence[Path], *, patients: Patients = "auto", overwrite: bool = False
) -> MergeSummary:
    """Write one cohort folder of several.

    Sources keep their names. Where cohorts have different folders under one name, such as two
    hospitals' ``folder``, the cohort's name is added: ``folder-clinic-a``. Image, patient and
    exam names that would clash are prefixed with the source throughout. Of an image that is
    there twice (SOP Instance UID or pixel data) the first is kept and gets the findings of both.

    Args:
        out: The folder to write.
        cohorts: Two or more cohort folders, in order of precedence.
        patients: Whether equal patient names mean one woman: ``same`` or ``apart``. ``auto`` takes
            those of different data sets for different women, and asks where two folders of one
            layout share names: they may be two hospitals, or two parts of one.
        overwrite: Replace a cohort that is there.

    Raises:
        CohortError: If there are fewer than two, ``out`` is one of them, one is damaged or was
            edited, they were ingested by different rules of eligibility, copies of one image
            contradict each other in breast, view or label, or it cannot be known whether equal
            names are one woman.
        OutputError: If the folder exists or cannot be written.
    """
    out = Path(out)
    given = {Path(path).resolve() for path in cohorts}
    if out.resolve() in given:
        raise CohortError(f"{out} is one of the cohorts to be merged: name a folder of its own")
    if len(given) < max(2, len(cohorts)):
        raise CohortError("merging takes two or more different cohorts")
    check_output(out, overwrite=overwrite, marker="cohort.json")
    inputs = [_read(Path(path)) for path in cohorts]
    names = _source_names(inputs)
    images, copies = _without_copies(inputs, names)
    clashing = _clashing_columns(images, patients)
    rows, findings = _renamed(images, names, clashing)
    rejects = [*_rejects(inputs, names, _new_names(images, rows)), *copies]
    facts = _facts(inputs, names, clashing)
    with new_folder(out, overwrite=overwrite, marker="cohort.json") as fresh:
        counts = write_tables(fresh, rows, findings, rejects, facts)
    return MergeSummary(
        sources=tuple(names.values()),
        images=counts.images,
        patients=counts.patients,
        findings=counts.findings,
        duplicates=len(copies),
        prefixed=clashing,
        synthetic=bool(facts["synthetic"]),
        partly_synthetic=bool(facts["partly_synthetic"]),
    )


def _read(path: Path) -> _Input:
    facts = read_cohort(path)
    for name, expected in facts.get("hashes", {}).items():
        if not (path / name).is_file() or sha256_file(path / name) != expected:
            raise CohortError(f"{path / name} is missing or was edited; ingest again")
    findings: dict[str, list[_Row]] = defaultdict(list)
    for finding in read_findings(path).select(*FINDINGS_SCHEMA).iter_rows(named=True):
        findings[finding["image_id"]].append(finding)
    rows = list(read_manifest(path).select(*MANIFEST_SCHEMA).iter_rows(named=True))
    rejects = [reject for reject in read_rejects(path) if reject.stage == "ingest"]
    return _Input(path, facts, source_roots(path), rows, findings, rejects)


def _facts(
    inputs: list[_Input], names: dict[tuple[str, Path], str], clashing: tuple[str, ...]
) -> dict[str, Any]:
    """Return what ``cohort.json`` says of the whole beside its counts."""
    some = any(one.facts.get("synthetic") for one in inputs)
    # A merge of both kinds is synthetic in part.
    every = all(
        one.facts.get("synthetic") and not one.facts.get("partly_synthetic") for one in inputs
    )
    return {
        "synthetic": some,
        "partly_synthetic": some and not every,
        "source": "merge",
        "source_roots": {name: str(root) for (_, root), name in names.items()},
        "eligibility": _common_rules(inputs),
        "prefixed": list(clashing),
        "inputs": [
            {
                "cohort": str(one.path.resolve()),
                "images": len(one.rows),
                "faults": one.facts.get("faults"),
                "hashes": one.facts["hashes"],
            }
            for one in inputs
        ],
    }


def _common_rules(inputs: list[_Input]) -> dict[str, Any]:
    """Return the eligibility rules by which all images were accepted."""
    first, *others = (
        (one.path, read_eligibility(one.path).model_dump(mode="json")) for one in inputs
    )
    for path, rules in others:
        unlike = sorted(key for key in rules if rules[key] != first[1][key])
        if unlike:
            raise CohortError(
                f"{first[0]} and {path} were ingested by different rules of eligibility "
                f"({', '.join(unlike)}): ingest both by the same"
            )
    return first[1]


def _source_names(inputs: list[_Input]) -> dict[tuple[str, Path], str]:
    """Name each (source, folder) so that no two folders have one name."""
    folders: dict[str, set[Path]] = defaultdict(set)
    for one in inputs:
        for source, root in one.roots.items():
            folders[source].add(root)
    names: dict[tuple[str, Path], str] = {}
    for one in inputs:
        for source, root in one.roots.items():
            alone = len(folders[source]) == 1
            name = source if alone else f"{source}-{safe_id(one.path.resolve().name)}"
            names.setdefault((source, root), name)
    if len(set(names.values())) < len(names):
        raise CohortError(
            f"the sources would be called {', '.join(sorted(names.values()))}, two of them alike: "
            "rename a cohort folder"
        )
    return names


def _without_copies(
    inputs: list[_Input], names: dict[tuple[str, Path], str]
) -> tuple[list[_Image], list[Reject]]:
    """Keep the first of each image, with the findings of all its copies."""
    images: list[_Image] = []
    rejects: list[Reject] = []
    seen: Copies[_Image] = Copies()
    for one in inputs:
        # Two images of one cohort are two: its ingest has looked.
        of_this = []
        for row in one.rows:
            space = (row["source"], one.roots[row["source"]])
            image = _Image(row, list(one.findings.get(row["image_id"], [])), space)
            keys = keys_of(row["sop_instance_uid"], row["pixel_sha256"])
            found = seen.find(keys)
            if found is None:
                images.append(image)
                of_this.append((keys, image))
                continue
            _, first = found
            _check_copies(first, image)
            first.findings.extend(new_findings(first.findings, image.findings))
            first.copies.append((space, row["image_id"]))
            path = f"{names[space]}/{row['path']}"
            message = f"{path} is the same image as {names[first.space]}/{first.row['path']}"
            rejects.append(Reject("ingest", path, row["image_id"], Reason.DUPLICATE, message))
        for keys, image in of_this:
            seen.remember(keys, image)
    return images, rejects


def _check_copies(first: _Image, copy: _Image) -> None:
    """Refuse two copies of one image of which one must be wrong."""
    for column in _FACTS:
        one, other = first.row[column], copy.row[column]
        if one is not None and other is not None and one != other:
            raise CohortError(
                f"image {first.row['image_id']} of source {first.space[0]} and image "
                f"{copy.row['image_id']} of source {copy.space[0]} are one image, and {column} is "
                f"{one} in one and {other} in the other: one of the tables is wrong"
            )


def _clashing_columns(images: list[_Image], patients: Patients) -> tuple[str, ...]:
    """Return the columns of names in which one name would stand for different things."""
    clashing: list[str] = []
    # Copies are gone: two images of one name are two images.
    if len({image.row["image_id"] for image in images}) < len(images):
        clashing.append("image_id")
    if patients != "same" and _shares_patients(images, patients):
        # The exams of two women who had one name.
        return (*clashing, "patient_id", "exam_id")
    women: dict[str, set[str]] = defaultdict(set)
    for image in images:
        women[image.row["exam_id"]].add(image.row["patient_id"])
    if any(len(found) > 1 for found in women.values()):
        clashing.append("exam_id")
    return tuple(clashing)


def _shares_patients(images: list[_Image], patients: Patients) -> bool:
    """Say whether two folders share patient names; ask where they are of one layout."""
    spaces: dict[str, set[tuple[str, Path]]] = defaultdict(set)
    for image in images:
        spaces[image.row["patient_id"]].add(image.space)
    shared = [found for found in spaces.values() if len(found) > 1]
    unsure = sum(len({source for source, _ in found}) < len(found) for found in shared)
    if unsure and patients == "auto":
        raise CohortError(
            f"{unsure} patient names stand in two folders of one layout: say --patients same if "
            "they are the same women, --patients apart if not"
        )
    return bool(shared)


def _renamed(
    images: list[_Image], names: dict[tuple[str, Path], str], clashing: tuple[str, ...]
) -> tuple[list[_Row], list[_Row]]:
    rows: list[_Row] = []
    findings: list[_Row] = []
    for image in images:
        source = names[image.space]
        prefixed = {column: f"{source}-{image.row[column]}" for column in clashing}
        row = {**image.row, "source": source, **prefixed}
        rows.append(row)
        for number, finding in enumerate(image.findings, start=1):
            name = {"finding_id": f"{row['image_id']}-{number}", "image_id": row["image_id"]}
            findings.append({**finding, **name})
    if len({row["image_id"] for row in rows}) < len(rows):
        raise CohortError("two images of one source have one name and different pixels")
    return rows, findings


def _new_names(images: list[_Image], rows: list[_Row]) -> dict[tuple[tuple[str, Path], str], str]:
    """Return the name in the whole of each image and of its copies."""
    return {
        old: row["image_id"]
        for image, row in zip(images, rows, strict=True)
        for old in ((image.space, image.row["image_id"]), *image.copies)
    }


def _rejects(
    inputs: list[_Input],
    names: dict[tuple[str, Path], str],
    images: dict[tuple[tuple[str, Path], str], str],
) -> list[Reject]:
    """Return what the inputs refused, with the source before the path.

    A finding that was refused is of an image of the whole, which may have another name there.
    """
    rejects: list[Reject] = []
    for one in inputs:
        if len(one.roots) == 1:
            ((source, root),) = one.roots.items()
            prefix = f"{names[source, root]}/"
        else:
            # A merge has written the sources before the paths already.
            prefix = ""
        for reject in one.rejects:
            found = [images.get((space, reject.image_id)) for space in one.roots.items()]
            image_id = next(filter(None, found), reject.image_id)
            path = f"{prefix}{reject.path}"
            rejects.append(replace(reject, path=path, image_id=image_id))
    return rejects

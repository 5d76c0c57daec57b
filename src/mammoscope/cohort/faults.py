"""What can be wrong with a finding, and how it is mended: one rule for ingest and for training.

Annotations are drawn by hand, merged and edited, and come in every form; a training set is
silently wrong where one of them is. Each fault has a code of its own and a sentence, and where
it can be mended a remedy. Whether it is mended is the user's to say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mammoscope.cohort.mask_files import fits_image, read_mask
from mammoscope.config import FaultRule
from mammoscope.errors import CohortError, DicomError, Reason
from mammoscope.types import Bools, Box

__all__ = [
    "FINDING_REASONS",
    "Wrong",
    "check_contour",
    "fit_mask",
    "is_kept",
    "mend_box",
    "named_few",
    "read_marks",
    "refusal",
    "same_proportions",
]

#: Codes under which a finding is refused; its image stays.
FINDING_REASONS = frozenset(
    {
        Reason.INVALID_FINDING,
        Reason.OUTSIDE_IMAGE,
        Reason.OVER_BORDER,
        Reason.NO_AREA,
        Reason.WRONG_ORDER,
        Reason.NO_NUMBER,
        Reason.NOT_A_CONTOUR,
        Reason.MASK_EMPTY,
        Reason.MASK_FULL,
        Reason.MASK_SIZE,
        Reason.MASK_UNREADABLE,
    }
)

_Sides = tuple[float, float, float, float]
_Size = tuple[int, int]

# Hand-drawn regions run over the border; one that lies mostly outside belongs elsewhere.
_LEAST_INSIDE = 0.5
# Half a pixel over the border is how somebody rounded, and no fault.
_ROUNDING_PX = 0.5
# A resized copy keeps its proportions, give or take the rounding of its sides.
_PROPORTION_SLACK = 0.02
# Faults that a message names one by one.
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Wrong:
    """One fault of a finding.

    Attributes:
        code: One of :data:`FINDING_REASONS`.
        sentence: What was found.
        remedy: What repair does about it; none where nothing can be done.
    """

    code: str
    sentence: str
    remedy: str | None = None

    def told(self, *, repaired: bool) -> str:
        """Return the sentence, with the remedy where it was applied."""
        return f"{self.sentence}: {self.remedy}" if repaired and self.remedy else self.sentence


def is_kept(wrong: Sequence[Wrong], rule: FaultRule) -> bool:
    """Say whether a finding stays: nothing is wrong with it, or all of it may be mended."""
    return not wrong or (rule == "repair" and all(fault.remedy for fault in wrong))


def mend_box(sides: Sequence[float | None], image: _Size) -> tuple[Box | None, list[Wrong]]:
    """Check a box against its image: turn it, clip it, or say why it cannot be.

    Args:
        sides: x_min, y_min, x_max, y_max, in pixels of the image.
        image: Its (rows, columns).

    Returns:
        The box within the image, none where it cannot be mended; and what was wrong.
    """
    named = f"its box ({', '.join('none' if side is None else f'{side:g}' for side in sides)})"
    known = [side for side in sides if side is not None and math.isfinite(side)]
    if len(known) < 4:
        return None, [Wrong(Reason.NO_NUMBER, f"{named} has a side that is no finite number")]
    x_min, y_min, x_max, y_max = known
    wrong = []
    if x_min > x_max or y_min > y_max:
        sentence = f"{named} has sides in the wrong order"
        wrong.append(Wrong(Reason.WRONG_ORDER, sentence, "swapped"))
        x_min, x_max, y_min, y_max = *sorted((x_min, x_max)), *sorted((y_min, y_max))
    whole = x_min, y_min, x_max, y_max
    if _area(whole) <= 0:
        return None, [*wrong, Wrong(Reason.NO_AREA, f"{named} has no area")]
    cut = _clip(whole, image)
    inside = _area(cut) / _area(whole)
    size = f"the image of {image[0]} x {image[1]}"
    if inside < _LEAST_INSIDE:
        sentence = f"{1 - inside:.0%} of {named} lies outside {size}"
        return None, [*wrong, Wrong(Reason.OUTSIDE_IMAGE, sentence)]
    over = max(abs(a - b) for a, b in zip(whole, cut, strict=True))
    if over > _ROUNDING_PX:
        sentence = f"{named} runs {over:g} px over the border of {size}"
        wrong.append(Wrong(Reason.OVER_BORDER, sentence, "clipped"))
    return Box(*cut), wrong


def check_contour(contour: Sequence[float], instead: str | None) -> list[Wrong]:
    """Return what is wrong with a contour of x0, y0, x1, y1 and so on.

    Args:
        contour: Its numbers.
        instead: What else says where the finding is, such as ``its box``; none if nothing does.
    """
    if not contour or len(contour) % 2:
        what = f"its contour has {len(contour)} numbers, which are not points"
    elif not all(math.isfinite(value) for value in contour):
        what = "its contour has a coordinate that is not a finite number"
    else:
        return []
    return [Wrong(Reason.NOT_A_CONTOUR, what, _taken(instead))]


def read_marks(path: Path, name: str, instead: str | None) -> tuple[Bools | None, list[Wrong]]:
    """Read a mask file: its marked pixels, or why it cannot be read.

    Args:
        path: The file.
        name: What a sentence calls it.
        instead: What else says where the finding is; none if nothing does.
    """
    try:
        return read_mask(path), []
    except FileNotFoundError:
        why = "does not exist"
    except OSError as error:
        why = f"cannot be opened: {error.strerror or error}"
    except DicomError as error:
        why = f"cannot be read: {error}"
    return None, [Wrong(Reason.MASK_UNREADABLE, f"its mask {name} {why}", _taken(instead))]


def fit_mask(
    marked: Bools, name: str, image: _Size, instead: str | None
) -> tuple[Bools | None, list[Wrong]]:
    """Bring a mask to the size of its image, and refuse one that marks nothing or everything.

    A few rows or columns more or less are cut or filled up without a word; what is of the image's
    proportions is stretched.

    Args:
        marked: Its marked pixels, (H, W) bool.
        name: What a sentence calls it.
        image: (rows, columns) of its image.
        instead: What else says where the finding is; none if nothing does.

    Returns:
        The mask at the image's size, none where it cannot be used; and what was wrong.
    """
    rows, columns = marked.shape
    if marked.all():
        what = f"its mask {name} marks every pixel"
        return None, [Wrong(Reason.MASK_FULL, what, _taken(instead))]
    if not marked.any():
        what = f"its mask {name} marks no pixel"
        return None, [Wrong(Reason.MASK_EMPTY, what, _taken(instead))]
    if fits_image((rows, columns), image):
        fitted = np.zeros(image, dtype=np.bool_)
        shared = slice(min(image[0], rows)), slice(min(image[1], columns))
        fitted[shared] = marked[shared]
        if not fitted.any():
            what = f"its mask {name} marks no pixel of the image of {image[0]} x {image[1]}"
            return None, [Wrong(Reason.MASK_EMPTY, what, _taken(instead))]
        return fitted, []
    sizes = f"its mask {name} is {rows} x {columns}, the image {image[0]} x {image[1]}"
    if not same_proportions(image, (rows, columns)):
        what = f"{sizes}, of other proportions"
        return None, [Wrong(Reason.MASK_SIZE, what, _taken(instead))]
    return _stretched(marked, image), [Wrong(Reason.MASK_SIZE, sizes, "stretched")]


def same_proportions(one: _Size, other: _Size) -> bool:
    """Say whether an image of (rows, columns) may be one of another size, resized."""
    return abs(one[0] / other[0] / (one[1] / other[1]) - 1) <= _PROPORTION_SLACK


def named_few(sentences: Sequence[str]) -> str:
    """Join the first few of many sentences, and say how many more there are."""
    more = len(sentences) - _EXAMPLES
    return "; ".join(sentences[:_EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


def refusal(
    faults: Sequence[tuple[str, str]], wrong: int, findings: int, setting: str
) -> CohortError:
    """Return the error of faulty findings where no fault is to pass.

    Args:
        faults: The code of each and a sentence that names the finding.
        wrong: How many findings have one.
        findings: Of how many.
        setting: What the user may set otherwise.
    """
    counts = sorted(Counter(str(code) for code, _ in faults).items())
    counted = ", ".join(f"{count} {code}" for code, count in counts)
    return CohortError(
        f"{wrong} of {findings} findings are wrong ({counted}), and {setting} is refuse: "
        f"{named_few([sentence for _, sentence in faults])}. Mend them, or set {setting} to "
        "repair or drop"
    )


def _taken(instead: str | None) -> str | None:
    return f"{instead} is taken" if instead else None


def _stretched(marked: Bools, image: _Size) -> Bools:
    """Return a mask at another size; it never loses all its marks."""
    shrinks = image[0] < marked.shape[0]
    whole = cv2.resize(
        marked.astype(np.float32),
        (image[1], image[0]),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST,
    )
    # Marked where half a pixel is; of marks smaller than that, where most of it is.
    return np.asarray(whole >= min(0.5, float(whole.max())), dtype=np.bool_)


def _clip(box: _Sides, image: _Size) -> _Sides:
    height, width = image
    x_min, x_max = (min(max(value, 0.0), float(width)) for value in (box[0], box[2]))
    y_min, y_max = (min(max(value, 0.0), float(height)) for value in (box[1], box[3]))
    return x_min, y_min, x_max, y_max


def _area(box: _Sides) -> float:
    """Return the area; negative sides do not make one together."""
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height if width > 0 and height > 0 else 0.0

"""Breasts and exams from all their views: one backbone, attention over views, two breasts compared.

Every view keeps the map of local logits that its own logit is pooled from, as in
:mod:`mammoscope.models.classifier`. A breast's logit is a weighted mean of its views' logits,
corrected by what the views show together; an exam model corrects it once more by the other
breast and by what is known of the woman. All corrections start at nothing, so that the
untrained model says what its image classifier says.

Ideas: GMIC (Shen et al., Med. Image Anal. 68, 2021) pools features where the map is hot; Mirai
(Yala et al., Sci. Transl. Med. 13, 2021) attends over views and masks missing ones; Wu et al.
(IEEE Trans. Med. Imaging 39, 2020) score breasts from CC and MLO together.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mammoscope.bundle import FACTS, OTHER_PROJECTION, SIDES
from mammoscope.models.classifier import Classifier

__all__ = ["MultiViewClassifier", "MultiViewGraph", "MultiViewOutput", "Views"]

_WIDTH = 64
# What stands for minus infinity: its exponential is 0, its gradient finite.
_NOTHING = -1e4
# Scalars move by about the learning rate in a step, which is little for a sharpness.
_SCALE = 10.0
# Mean and spread of what an exam model may be told, in the order of FACTS.
_FACT_CENTRE = (60.0, 1.5, 0.0)
_FACT_SPREAD = (12.0, 1.0, 1.0)


class Views(NamedTuple):
    """Images grouped by breast or exam, and what is known of each; V is the largest group's.

    Attributes:
        views: (B, V, 1, H, W) float32 grey values; what lies where nothing is does not matter.
        mask: (B, V) bool, where an image is.
        projection: (B, V) int64, place in ``PROJECTIONS``, or ``OTHER_PROJECTION``.
        side: (B, V) int64, place in ``SIDES``.
        facts: (B, 3) float32 in the order of ``FACTS``, NaN where unknown.
    """

    views: Tensor
    mask: Tensor
    projection: Tensor
    side: Tensor
    facts: Tensor


class MultiViewOutput(NamedTuple):
    """What a breast or exam model gives.

    Attributes:
        image_logit: (B, V), pooled from each view's own map; 0 where no image is.
        breast_logit: (B, 2) in the order of ``SIDES``; 0 where a breast has no image.
        exam_logit: (B,); for a breast model the higher of the breasts'.
        heatmap: (B, V, h, w) in [0, 1].
    """

    image_logit: Tensor
    breast_logit: Tensor
    exam_logit: Tensor
    heatmap: Tensor


class MultiViewClassifier(nn.Module):
    """An image classifier that looks at each view, and a judge of what the views show together.

    Args:
        classifier: Looks at single images; shared by all views.
        level: A breast model judges each breast by itself; an exam model compares the two.
        facts: What an exam model may use beside the images, words of ``FACTS``.
        dropout: Share of a judgement's hidden numbers dropped in training.
    """

    used_facts: Tensor

    def __init__(
        self,
        classifier: Classifier,
        *,
        level: Literal["breast", "exam"],
        facts: tuple[str, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.level = level
        self.facts = facts
        self.describe = nn.Linear(classifier.channels + 1, _WIDTH)
        self.norm = nn.LayerNorm(_WIDTH)
        self.projection = nn.Embedding(OTHER_PROJECTION + 1, _WIDTH)
        nn.init.normal_(self.projection.weight, std=0.02)
        self.breast = _BreastJudge(dropout)
        self.exam = _ExamJudge(dropout) if level == "exam" else None
        used = torch.tensor([name in facts for name in FACTS])
        self.register_buffer("used_facts", used, persistent=False)

    def own_parameters(self) -> list[nn.Parameter]:
        """List the parameters that judge, but not those that look at single images."""
        return [p for name, p in self.named_parameters() if not name.startswith("classifier.")]

    def forward(self, given: Views) -> MultiViewOutput:
        """Score a batch of breasts or exams; see :class:`Views`."""
        return self.read(self.features(given), given)

    def features(self, given: Views) -> Tensor:
        """Return what the backbone makes of the images that are there, (N, channels, h, w)."""
        # Only what is there is looked at: black stand-ins would shift batch normalisation.
        return self.classifier.features(given.views[given.mask])

    def read(self, features: Tensor, given: Views) -> MultiViewOutput:
        """Score features (N, channels, h, w) of the images that are there."""
        batch, most = given.mask.shape
        image_logit, token, local = self.look(features)
        logits = image_logit.new_zeros(batch, most)
        tokens = token.new_zeros(batch, most, _WIDTH)
        heatmap = local.new_zeros(batch, most, *local.shape[1:])
        logits[given.mask] = image_logit
        tokens[given.mask] = token
        heatmap[given.mask] = torch.sigmoid(local)
        breast, exam = self.judge(logits, tokens, given)
        return MultiViewOutput(logits, breast, exam, heatmap)

    def look(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at images one by one, by their features (N, channels, h, w).

        Returns:
            Logits (N,), what each shows where it is most suspicious (N, D), local logits
            (N, h, w).
        """
        local = self.classifier.local(features)
        logit = self.classifier.pooled(local)
        heat = torch.softmax(local.flatten(1), dim=1)  # (N, h * w)
        hottest = (features.flatten(2).float() * heat[:, None]).sum(dim=2)  # (N, C)
        shown = torch.cat([hottest, logit[:, None]], dim=1)
        return logit, self.norm(self.describe(shown)), local

    def judge(self, logits: Tensor, tokens: Tensor, given: Views) -> tuple[Tensor, Tensor]:
        """Return breast logits (B, 2) and exam logits (B,) of logits (B, V), tokens (B, V, D)."""
        sides = torch.arange(len(SIDES), device=given.side.device)
        own = (given.side[:, None] == sides[:, None]) & given.mask[:, None]  # (B, 2, V)
        there = own.any(dim=2)  # (B, 2)
        breast, shown = self.breast(logits, tokens + self.projection(given.projection), own)
        if self.exam is None:
            exam = torch.where(there, breast, _NOTHING).amax(dim=1)
        else:
            known = ~torch.isnan(given.facts) & self.used_facts
            breast, exam = self.exam(breast, shown, there, given.facts, known)
        return torch.where(there, breast, 0.0), exam


class _BreastJudge(nn.Module):
    """The views of a breast see each other, and then their logits are weighed."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(_WIDTH, _WIDTH) for _ in range(3))
        self.mixed = _silent(nn.Linear(_WIDTH, _WIDTH))
        self.weight = _silent(nn.Linear(_WIDTH, 1, bias=False))
        # 0 weighs all views alike, infinity takes the most suspicious. It begins at 0: of an image
        # model's logits the plain mean ranked breasts best (docs/experiments.md).
        self.sharpness = nn.Parameter(torch.zeros(()))
        self.correction = _correction(_WIDTH, dropout)

    def forward(self, logits: Tensor, tokens: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Judge breasts.

        Args:
            logits: (B, V) of the images.
            tokens: (B, V, D).
            own: (B, 2, V), which images are of which breast.

        Returns:
            Logits (B, 2) and what the breasts show (B, 2, D).
        """
        together = (own[:, :, :, None] & own[:, :, None, :]).any(dim=1)  # (B, V, V)
        likeness = self.query(tokens) @ self.key(tokens).transpose(1, 2) / _WIDTH**0.5
        seen = _softmax(likeness, together) @ self.value(tokens)  # (B, V, D)
        tokens = tokens + self.mixed(seen)
        say = self.weight(tokens).squeeze(2) + _SCALE * self.sharpness * logits  # (B, V)
        share = _softmax(say[:, None].expand(own.shape), own)  # (B, 2, V)
        shown = share @ tokens  # (B, 2, D)
        mean = (share * logits[:, None]).sum(dim=2)  # (B, 2)
        return mean + self.correction(shown).squeeze(2), shown


class _ExamJudge(nn.Module):
    """Each breast is held against the other; the exam is positive where either is."""

    centre: Tensor
    spread: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        # What it shows, what it shows more than the other, by how much more it is suspected,
        # whether there is another, and facts with their being known.
        self.correction = _correction(2 * _WIDTH + 2 + 2 * len(FACTS), dropout)
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("centre", torch.tensor(_FACT_CENTRE), persistent=False)
        self.register_buffer("spread", torch.tensor(_FACT_SPREAD), persistent=False)

    def forward(
        self, breast: Tensor, shown: Tensor, there: Tensor, facts: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge exams.

        Args:
            breast: (B, 2) logits.
            shown: (B, 2, D).
            there: (B, 2), whether a breast has images.
            facts: (B, 3).
            known: (B, 3).

        Returns:
            Logits of the breasts (B, 2) and of the exams (B,).
        """
        both = there.all(dim=1).to(breast.dtype)[:, None]  # (B, 1)
        more = (shown - shown.flip(1)) * both[:, :, None]
        suspected = (breast - breast.flip(1)) * both
        told = torch.where(known, (facts - self.centre) / self.spread, 0.0)
        about = torch.cat([told, known.to(told.dtype)], dim=1)  # (B, 6)
        given = torch.cat(
            [
                shown,
                more,
                suspected[:, :, None],
                both[:, None].expand(-1, 2, -1),
                about[:, None].expand(-1, 2, -1),
            ],
            dim=2,
        )
        breast = breast + self.correction(given).squeeze(2)
        # 1 - (1 - p)(1 - q) as a logit, with odds o and u: o + u + o u.
        right, left = torch.where(there, breast, _NOTHING).unbind(dim=1)
        either = torch.logsumexp(torch.stack([right, left, right + left], dim=1), dim=1)
        return breast, either + self.bias


class MultiViewGraph(nn.Module):
    """One exam as it is served: its images without gaps, all that is said of them.

    Args:
        model: In evaluation mode; outputs come in the order of :meth:`outputs`.
    """

    def __init__(self, model: MultiViewClassifier) -> None:
        super().__init__()
        self.model = model

    @property
    def inputs(self) -> list[str]:
        """Names of what it takes."""
        return ["image", "projection", "side", *(["facts"] if self.model.facts else [])]

    @property
    def outputs(self) -> list[str]:
        """Names of what it gives."""
        exam = ["exam_logit", "exam_score"] if self.model.level == "exam" else []
        return ["logit", "score", "heatmap", "breast_logit", "breast_score", *exam]

    def forward(
        self, image: Tensor, projection: Tensor, side: Tensor, facts: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Score images (V, 1, H, W) of one exam; a breast without an image is NaN."""
        logit, token, local = self.model.look(self.model.classifier.features(image))
        # Grown from what is there, which keeps the number of views free in the exported graph.
        mask = (side >= 0)[None]
        if facts is None:
            facts = image.new_full((len(FACTS),), float("nan"))
        given = Views(image[None], mask, projection[None], side[None], facts[None])
        breast, exam = self.model.judge(logit[None], token[None], given)
        absent = torch.stack([(side != place).all() for place in range(len(SIDES))])
        breast = torch.where(absent, float("nan"), breast[0])
        heatmap = torch.sigmoid(local)
        every = [logit, torch.sigmoid(logit), heatmap, breast, torch.sigmoid(breast)]
        if self.model.level == "exam":
            every += [exam, torch.sigmoid(exam)]
        return tuple(every)


def _softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension within a mask; all 0 where the mask is empty."""
    return torch.softmax(torch.where(mask, values, _NOTHING), dim=-1) * mask


def _correction(width: int, dropout: float) -> nn.Sequential:
    """(…, width) to (…, 1), 0 before training."""
    last = _silent(nn.Linear(_WIDTH // 2, 1))
    return nn.Sequential(nn.Linear(width, _WIDTH // 2), nn.ReLU(), nn.Dropout(dropout), last)


def _silent(layer: nn.Linear) -> nn.Linear:
    """Have a layer say 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer

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
from mammoscope.models.judges import NOTHING, WIDTH, BreastJudge, ExamJudge, depths

__all__ = ["MultiViewClassifier", "MultiViewGraph", "MultiViewOutput", "Views"]


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
        self.describe = nn.Linear(classifier.channels + 1, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.projection = nn.Embedding(OTHER_PROJECTION + 1, WIDTH)
        nn.init.normal_(self.projection.weight, std=0.02)
        self.breast = BreastJudge(dropout)
        self.exam = ExamJudge(dropout) if level == "exam" else None
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
        image_logit, token, depth, local = self.look(features, given.views[given.mask])
        logits, deep = (image_logit.new_zeros(batch, most) for _ in range(2))
        tokens = token.new_zeros(batch, most, WIDTH)
        heatmap = local.new_zeros(batch, most, *local.shape[1:])
        logits[given.mask] = image_logit
        deep[given.mask] = depth
        tokens[given.mask] = token
        heatmap[given.mask] = torch.sigmoid(local)
        breast, exam = self.judge(logits, tokens, deep, given)
        return MultiViewOutput(logits, breast, exam, heatmap)

    def look(self, features: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Look at images (N, 1, H, W) one by one, by their features (N, channels, h, w).

        Returns:
            Logits (N,), what each shows where it is most suspicious (N, D), how deep in the breast
            that lies (N,), local logits (N, h, w).
        """
        logit, local = self.classifier.look(features)
        heat = torch.softmax(local.flatten(1), dim=1)  # (N, h * w)
        hottest = (features.flatten(2).float() * heat[:, None]).sum(dim=2)  # (N, C)
        shown = torch.cat([hottest, logit[:, None]], dim=1)
        depth = depths(local, images / self.classifier.max_value)
        return logit, self.norm(self.describe(shown)), depth, local

    def judge(
        self, logits: Tensor, tokens: Tensor, depth: Tensor, given: Views
    ) -> tuple[Tensor, Tensor]:
        """Judge breasts and exams.

        Args:
            logits: (B, V) of the images.
            tokens: (B, V, D).
            depth: (B, V), see :func:`.judges.depths`.
            given: What else is known.

        Returns:
            Logits of breasts (B, 2) and of exams (B,).
        """
        sides = torch.arange(len(SIDES), device=given.side.device)
        own = (given.side[:, None] == sides[:, None]) & given.mask[:, None]  # (B, 2, V)
        there = own.any(dim=2)  # (B, 2)
        tokens = tokens + self.projection(given.projection)
        breast, shown = self.breast(logits, tokens, depth, given.projection, own)
        if self.exam is None:
            exam = torch.where(there, breast, NOTHING).amax(dim=1)
        else:
            known = ~torch.isnan(given.facts) & self.used_facts
            breast, exam = self.exam(breast, shown, there, given.facts, known)
        return torch.where(there, breast, 0.0), exam


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
        features = self.model.classifier.features(image)
        logit, token, depth, local = self.model.look(features, image)
        # Grown from what is there, which keeps the number of views free in the exported graph.
        mask = (side >= 0)[None]
        if facts is None:
            facts = image.new_full((len(FACTS),), float("nan"))
        given = Views(image[None], mask, projection[None], side[None], facts[None])
        breast, exam = self.model.judge(logit[None], token[None], depth[None], given)
        absent = torch.stack([(side != place).all() for place in range(len(SIDES))])
        breast = torch.where(absent, float("nan"), breast[0])
        heatmap = torch.sigmoid(local)
        every = [logit, torch.sigmoid(logit), heatmap, breast, torch.sigmoid(breast)]
        if self.model.level == "exam":
            every += [exam, torch.sigmoid(exam)]
        return tuple(every)

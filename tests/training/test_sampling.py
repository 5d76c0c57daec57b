"""Images of an epoch: all, or drawn so that a rare label is seen; by seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mammoscope.config import TrainConfig
from mammoscope.errors import CohortError
from mammoscope.training.sampling import EpochSampler, drawn_counts

NAN = float("nan")
# 10 positives, 90 negatives, 5 unknown.
LABELS = list(np.random.default_rng(0).permutation([1.0] * 10 + [0.0] * 90 + [NAN] * 5))


def epoch_of(number=0, **settings):
    sampler = EpochSampler(LABELS, TrainConfig(seed=1, **settings))
    sampler.set_epoch(number)
    places = list(sampler)
    assert len(places) == len(sampler)
    assert {epoch for _, epoch in places} == {number}
    return [index for index, _ in places]


def labels_of(places):
    return Counter("unknown" if np.isnan(LABELS[at]) else LABELS[at] for at in places)


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own():
    first, second = epoch_of(0), epoch_of(1)
    assert sorted(first) == sorted(second) == list(range(105))
    assert first != second
    assert epoch_of(0) == first


def test_undersampling_draws_other_negatives_each_epoch():
    settings = {"sampling": "undersample", "negatives_per_positive": 3}
    first, second = epoch_of(0, **settings), epoch_of(1, **settings)
    assert labels_of(first) == labels_of(second) == {1.0: 10, 0.0: 30, "unknown": 5}
    assert len(set(first)) == 45
    drawn = [{at for at in places if LABELS[at] == 0} for places in (first, second)]
    assert 2 < len(drawn[0] & drawn[1]) < 25


def test_undersampling_never_invents_negatives():
    assert labels_of(epoch_of(sampling="undersample", negatives_per_positive=50))[0.0] == 90


def test_oversampling_shows_positives_equally_often():
    places = epoch_of(sampling="oversample", negatives_per_positive=3.6)
    assert labels_of(places) == {1.0: 25, 0.0: 90, "unknown": 5}
    repeats = Counter(at for at in places if LABELS[at] == 1)
    assert set(repeats.values()) == {2, 3}
    assert labels_of(epoch_of(sampling="oversample", negatives_per_positive=9.0))[1.0] == 10
    assert labels_of(epoch_of(sampling="oversample", negatives_per_positive=50))[1.0] == 10


def test_each_batch_has_its_positives():
    settings = {"batch_size": 8, "positives_per_batch": 1, "sampling": "oversample"}
    places = epoch_of(**settings, negatives_per_positive=6)
    assert labels_of(places) == {1.0: 15, 0.0: 90, "unknown": 5}
    batches = [places[at : at + 8] for at in range(0, len(places), 8)]
    assert all(labels_of(batch)[1.0] >= 1 for batch in batches)
    # Not always in the same place of the batch.
    assert len({[LABELS[at] for at in batch].index(1.0) for batch in batches}) > 3


def test_too_few_positives_for_every_batch_are_told_beforehand():
    with pytest.raises(CohortError, match="asks for 14 positive images in 14 batches"):
        EpochSampler(LABELS, TrainConfig(batch_size=8, positives_per_batch=1))


def test_counts_are_those_of_an_epoch():
    for settings in (
        {},
        {"sampling": "undersample", "negatives_per_positive": 2.5},
        {"sampling": "oversample", "negatives_per_positive": 1},
    ):
        found = labels_of(epoch_of(**settings))
        assert drawn_counts(LABELS, TrainConfig(**settings)) == (found[1.0], found[0.0])

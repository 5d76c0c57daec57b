"""Images of an epoch: all, or drawn so that a rare label is seen; by seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mammoscope.config import TrainConfig
from mammoscope.errors import CohortError
from mammoscope.training.sampling import (
    EpochSampler,
    Place,
    draw_rates,
    drawn_counts,
    idle_sampling,
)

NAN = float("nan")
# 10 positives, 90 negatives, 5 unknown.
LABELS = list(np.random.default_rng(0).permutation([1.0] * 10 + [0.0] * 90 + [NAN] * 5))


def epoch_of(number=0, **settings):
    sampler = EpochSampler(LABELS, TrainConfig(seed=1, **settings))
    sampler.set_epoch(number)
    places = list(sampler)
    assert len(places) == len(sampler)
    assert {place.epoch for place in places} == {number}
    # However often one is shown, no two places are alike.
    assert len(set(places)) == len(places)
    return [place.item for place in places]


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


def test_undersampling_keeps_a_share_of_the_negatives_however_many_are_positive():
    assert labels_of(epoch_of(sampling="undersample", keep_negatives=0.3)) == {
        1.0: 10, 0.0: 27, "unknown": 5,
    }  # fmt: skip
    with pytest.raises(ValueError, match="keep_negatives needs sampling=undersample"):
        TrainConfig(keep_negatives=0.3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, None),
        ({"sampling": "undersample", "negatives_per_positive": 8}, None),
        ({"sampling": "undersample", "negatives_per_positive": 15.4}, "15.4 negatives a positive"),
        ({"sampling": "undersample", "keep_negatives": 1}, "1 of the negatives"),
        ({"sampling": "oversample", "negatives_per_positive": 6}, None),
        ({"sampling": "oversample", "negatives_per_positive": 9}, "of 10 positives and 90 neg"),
    ],
)
def test_sampling_that_changes_nothing_is_told(settings, words):
    notes = idle_sampling(LABELS, TrainConfig(**settings))
    assert len(notes) == (words is not None)
    assert all(words in note for note in notes)


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
    # What is left over after whole batches is not trained on.
    batches = [places[at : at + 8] for at in range(0, len(places) // 8 * 8, 8)]
    assert all(labels_of(batch)[1.0] >= 1 for batch in batches)
    # Not always in the same place of the batch.
    assert len({[LABELS[at] for at in batch].index(1.0) for batch in batches}) > 3


def test_too_few_positives_for_every_batch_are_told_beforehand():
    with pytest.raises(CohortError, match="asks for 13 positive images in 13 batches"):
        EpochSampler(LABELS, TrainConfig(batch_size=8, positives_per_batch=1))
    # Ten in ten whole batches are enough; five images are left over.
    EpochSampler(LABELS, TrainConfig(batch_size=10, positives_per_batch=1))
    # One batch that is not full has what there is.
    EpochSampler([1.0, 1.0, 0.0], TrainConfig(batch_size=8, positives_per_batch=2))


def test_counts_are_those_of_an_epoch():
    for settings in (
        {},
        {"sampling": "undersample", "negatives_per_positive": 2.5},
        {"sampling": "oversample", "negatives_per_positive": 1},
    ):
        found = labels_of(epoch_of(**settings))
        assert drawn_counts(LABELS, TrainConfig(**settings)) == (found[1.0], found[0.0])


def test_rates_are_how_often_an_epoch_shows_each():
    config = TrainConfig(sampling="oversample", negatives_per_positive=3)
    rates = draw_rates(LABELS, config)
    assert {rate for rate, label in zip(rates, LABELS, strict=True) if label == 1} == {3.0}
    assert {rate for rate, label in zip(rates, LABELS, strict=True) if label != 1} == {1.0}
    assert sum(rates) == len(epoch_of(sampling="oversample", negatives_per_positive=3))


def test_what_is_shown_again_is_changed_otherwise_and_what_is_shown_once_as_ever():
    first, again = Place(3, 2), Place(3, 2, 1)
    drawn = [place.randomness(7).generate_state(2).tolist() for place in (first, again)]
    assert drawn[0] != drawn[1]
    assert drawn[0] == np.random.SeedSequence([7, 2, 3]).generate_state(2).tolist()

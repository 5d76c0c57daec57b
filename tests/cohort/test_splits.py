"""No patient is in two splits, whatever is asked."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.splits import read_splits, split_cohort, split_patients
from mammoscope.errors import CohortError, OutputError


def patients(strata: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "patient_id": [f"p{i:04}" for i in range(len(strata))],
            "stratum": [str(s) for s in strata],
        }
    )


@given(
    strata=st.lists(st.integers(0, 3), min_size=30, max_size=200),
    folds=st.integers(2, 5),
    test=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
def test_every_patient_is_dealt_exactly_once(strata, folds, test, seed):
    dealt = split_patients(patients(strata), folds=folds, test=test, seed=seed)
    assert sorted(dealt["patient_id"]) == sorted(patients(strata)["patient_id"])
    trained = dealt.filter(pl.col("split") == "train")
    assert trained["fold"].null_count() == 0
    assert dealt.filter(pl.col("split") == "test")["fold"].null_count() == (
        dealt.height - trained.height
    )
    sizes = trained["fold"].value_counts()["count"]
    assert sizes.max() - sizes.min() <= 1


def test_strata_are_dealt_in_proportion():
    dealt = split_patients(patients([0] * 400 + [1] * 100), folds=5, test=0.2, seed=0)
    joined = dealt.join(patients([0] * 400 + [1] * 100), on="patient_id")
    rare = joined.filter(pl.col("stratum") == "1")
    assert rare.filter(pl.col("split") == "test").height == 20
    assert set(rare["fold"].drop_nulls().value_counts()["count"]) == {16}


def test_one_seed_one_split_and_another_seed_another():
    table = patients([0, 1] * 50)
    first = split_patients(table, folds=5, test=0.2, seed=0)
    assert first.equals(split_patients(table, folds=5, test=0.2, seed=0))
    assert not first.equals(split_patients(table, folds=5, test=0.2, seed=1))
    # The order of the table's rows does not matter.
    shuffled = table.sample(fraction=1, shuffle=True, seed=3)
    assert first.equals(split_patients(shuffled, folds=5, test=0.2, seed=0))


def test_a_cohort_is_split_by_patient(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "c")
    made = split_cohort(tmp_path / "c", folds=3, test=0.25)
    splits = read_splits(tmp_path / "c")
    assert splits.height == 36
    places = splits.group_by("patient_id").agg(pl.struct("split", "fold").n_unique())
    assert set(places["split"]) == {1}
    assert made.table["images"].sum() == 36
    with pytest.raises(OutputError, match="--overwrite"):
        split_cohort(tmp_path / "c", folds=3)


@pytest.fixture
def with_column(write_mammogram, tmp_path):
    def write(words: dict[str, str], patient_of=lambda name: name):
        lines = ["file,patient_id,cancer,split"]
        for number, (name, word) in enumerate(words.items()):
            write_mammogram(tmp_path / "src" / f"{name}.dcm", seed=number)
            lines.append(f"{name}.dcm,{patient_of(name)},{number % 2},{word}")
        (tmp_path / "src" / "labels.csv").write_text("\n".join(lines) + "\n")
        ingest(tmp_path / "src", tmp_path / "c")
        return tmp_path / "c"

    return write


def test_a_column_of_the_table_is_honoured(with_column):
    words = {f"i{n}": "Test" if n < 3 else "train" for n in range(9)}
    cohort = with_column(words)
    split_cohort(cohort, folds=2, by="split")
    splits = read_splits(cohort)
    assert set(splits.filter(pl.col("split") == "test")["image_id"]) == {"i0", "i1", "i2"}


def test_a_column_that_tears_a_patient_apart_is_refused(with_column):
    words = {f"i{n}": "test" if n == 0 else "train" for n in range(6)}
    cohort = with_column(words, patient_of=lambda name: "same" if name in ("i0", "i1") else name)
    with pytest.raises(CohortError, match="1 patients in both train and test"):
        split_cohort(cohort, folds=2, by="split")
    assert not (cohort / "splits.parquet").exists()


def test_a_column_with_other_words_or_none_is_refused(with_column):
    cohort = with_column({f"i{n}": "train" if n else "maybe" for n in range(6)})
    with pytest.raises(CohortError, match="holds \\['maybe'\\]; accepted: holdout, test"):
        split_cohort(cohort, folds=2, by="split")
    with pytest.raises(CohortError, match="no column 'part'"):
        split_cohort(cohort, folds=2, by="part")


def test_numbers_that_cannot_be_dealt_are_refused(with_column):
    cohort = with_column({f"i{n}": "" for n in range(4)})
    with pytest.raises(CohortError, match="--folds is 1"):
        split_cohort(cohort, folds=1)
    with pytest.raises(CohortError, match="--test is 1"):
        split_cohort(cohort, test=1.0)
    with pytest.raises(CohortError, match="too few patients for 5 folds"):
        split_cohort(cohort, folds=5, test=0)


def test_splits_that_were_edited_to_tear_a_patient_are_refused(with_column):
    cohort = with_column({f"i{n}": "" for n in range(6)}, patient_of=lambda name: name[1:2] < "3")
    split_cohort(cohort, folds=2, test=0)
    path = cohort / "splits.parquet"
    table = pl.read_parquet(path).with_columns(pl.Series("fold", [0, 1, 0, 1, 0, 1]))
    table.write_parquet(path)
    with pytest.raises(CohortError, match="patients in more than one split"):
        read_splits(cohort)


def test_an_extra_source_is_trained_on_and_nothing_else(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "c")
    path = tmp_path / "c" / "manifest.parquet"
    manifest = pl.read_parquet(path)
    women = sorted(set(manifest["patient_id"]))[:2]
    manifest = manifest.with_columns(
        source=pl.when(pl.col("patient_id").is_in(women)).then(pl.lit("extra")).otherwise("source")
    )
    manifest.write_parquet(path)
    made = split_cohort(tmp_path / "c", folds=3, test=0.25, train_only=["extra"])
    splits = read_splits(tmp_path / "c")
    extra = splits.filter(pl.col("patient_id").is_in(women))
    assert set(extra["split"]) == {"train"}
    assert extra["fold"].null_count() == extra.height > 0
    others = splits.filter(~pl.col("patient_id").is_in(women) & (pl.col("split") == "train"))
    assert others["fold"].null_count() == 0
    assert made.table["images"].sum() == splits.height
    with pytest.raises(CohortError, match=r"--train-only cbis is not a source .* extra, rsna"):
        split_cohort(tmp_path / "c", train_only=["cbis"], overwrite=True)
    torn = manifest.with_columns(
        source=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("extra")).otherwise(pl.lit("rsna"))
    )
    torn.write_parquet(path)
    with pytest.raises(CohortError, match="1 patients of --train-only extra are in another source"):
        split_cohort(tmp_path / "c", train_only=["extra"], overwrite=True)

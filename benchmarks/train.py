"""Training epochs against a plain PyTorch loop that reads PNG files: same network, same images.

Both train and validate one epoch a round, in turn, with the same flips, rotation, zoom and shift,
the plain loop in a process of its own, as ours changes how its process keeps memory. That loop
writes nothing; ours is timed without the checkpoint that it writes after an epoch. Where the
processor computes in bf16, so does a second plain loop: each of ours is compared with the plain
loop in its own number format, so that the ratio is of loops and not of formats.
Pictures of noise cost as much to read and to learn from as breasts do.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mammoscope.artefacts import write_json
from mammoscope.cohort.manifest import write_manifest, write_rejects
from mammoscope.cohort.store import PreparedStore, write_prepared
from mammoscope.config import Config, PreprocessConfig
from mammoscope.models import build_classifier
from mammoscope.preprocessing import Geometry, PreparedImage
from mammoscope.training import fit
from mammoscope.training.loop import with_precision
from measure import Spread, leave

# After mammoscope's import of it, which a CPU-only torch needs.
from torchvision.transforms import v2  # isort: skip


def make_cohort(folder: Path, images: int, size: tuple[int, int]) -> None:
    """Write a cohort of smooth noise in two folds, prepared and split, and each image as PNG."""
    rng = np.random.default_rng(0)
    height, width = size
    geometry = Geometry.fit(size, (0, 0, width, height), size, mirrored=False)
    rows, splits = [], []
    (folder / "png").mkdir(parents=True)
    for number in range(images):
        name = f"i{number:04}"
        coarse = rng.integers(30, 220, (height // 16, width // 16)).astype(np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        pixels = cv2.add(pixels, rng.integers(0, 12, size).astype(np.uint8))
        prepared = PreparedImage(pixels, geometry, 0.5, 1.0, ("left",), 1.0)
        write_prepared(folder / "images", name, prepared)
        cv2.imwrite(str(folder / "png" / f"{name}.png"), pixels)
        ids = {"image_id": name, "patient_id": name}
        where = {"exam_id": name, "path": f"{name}.dcm", "laterality": "L", "view": "CC"}
        rows.append({**ids, **where, "cancer": number // 2 % 2})
        splits.append({**ids, "split": "train", "fold": int(number % 5 == 0)})
    write_manifest(folder, rows)
    write_rejects(folder, [])
    pl.DataFrame(splits).write_parquet(folder / "splits.parquet")
    about = {"format_version": 1, "kind": "cohort", "synthetic": True, "eligibility": {}}
    write_json(folder / "cohort.json", about)
    preprocess = PreprocessConfig(height=height, width=width)
    write_json(folder / "images/prepare.json", {"preprocess": preprocess.model_dump(mode="json")})


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """PNG files with torchvision's changes, as tutorials have them."""

    def __init__(self, folder: Path, rows: pl.DataFrame, *, train: bool) -> None:
        self.paths = [str(folder / "png" / f"{name}.png") for name in rows["image_id"]]
        self.labels = rows["cancer"].to_list()
        affine = v2.RandomAffine(
            10, (0.05, 0.05), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR
        )
        self.change = v2.Compose([v2.RandomVerticalFlip(), affine]) if train else v2.Identity()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        pixels = cv2.imread(self.paths[place], cv2.IMREAD_GRAYSCALE)
        image = torch.from_numpy(pixels.astype(np.float32))[None]
        return self.change(image), torch.tensor(float(self.labels[place]))


class Plain:
    """The loop that one would write without a framework, its forward pass in bf16 if asked."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.in_bf16 = config.train.precision == "bf16-mixed"
        store = PreparedStore(folder)
        rows = store.rows()
        size = store.config.height, store.config.width
        self.network, _ = build_classifier(config.model, max_value=255, size=size)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.train.lr)
        batch = config.train.batch_size
        train = Pictures(folder, rows.filter(pl.col("fold") == 0), train=True)
        val = Pictures(folder, rows.filter(pl.col("fold") == 1), train=False)
        self.train = DataLoader(train, batch, shuffle=True, drop_last=True)
        self.val = DataLoader(val, batch)
        self.waited_s = 0.0

    def epoch(self) -> tuple[float, float]:
        """Train and validate once; returns seconds, and the share of them spent waiting."""
        begun, self.waited_s = time.perf_counter(), 0.0
        self.network.train()
        for images, labels in self._counted(self.train):
            self.optimizer.zero_grad()
            with self._format():
                logits = self.network(images).logit
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
        self.network.eval()
        with torch.no_grad(), self._format():
            for images, _ in self._counted(self.val):
                self.network(images)
        seconds = time.perf_counter() - begun
        return seconds, self.waited_s / seconds

    def _format(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.in_bf16)

    def _counted(self, loader: DataLoader[Any]) -> Iterator[Any]:
        batches = iter(loader)
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begun
            if batch is None:
                return
            yield batch


@contextmanager
def apart(folder: Path, config: Config) -> Iterator[Connection]:
    """Have a plain loop in a process that trains an epoch whenever something is sent to it."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_train_plain, args=(far, folder, config), daemon=True)
    process.start()
    try:
        yield near
    finally:
        process.kill()
        process.join()


def _train_plain(connection: Connection, folder: Path, config: Config) -> None:
    loop = Plain(folder, config)
    while connection.recv():
        connection.send(loop.epoch())


def ours(cohort: Path, run: Path, config: Config) -> tuple[float, float]:
    """Train and validate once; returns seconds, and the share of them spent waiting."""
    fit(cohort, run, config, 1, overwrite=True)
    with (run / "history.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    return float(row["seconds"]), float(row["waiting"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", nargs="+", default=["baseline_cnn", "resnet18"])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar="PX")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        cohort, run = Path(scratch) / "cohort", Path(scratch) / "run"
        make_cohort(cohort, arguments.images, tuple(arguments.size))
        for name in arguments.backbone:
            settings = {"model": {"backbone": name, "pretrained": False}}
            base = Config.model_validate(
                {**settings, "train": {"epochs": 1}, "augment": {"gamma": 0}}
            )

            def computed_in(precision: str, base: Config = base) -> Config:
                train = base.train.model_copy(update={"precision": precision})
                return base.model_copy(update={"train": train})

            # One where the processor does not compute in bf16.
            formats = dict.fromkeys(("32-true", with_precision(base).train.precision))
            ways = {f"mammoscope, {name}": computed_in(name) for name in formats}
            taken: dict[str, list[tuple[float, float]]] = {
                **{f"plain, {name}": [] for name in formats},
                **{way: [] for way in ways},
            }
            with ExitStack() as stack:
                loops = {
                    f"plain, {name}": stack.enter_context(apart(cohort, computed_in(name)))
                    for name in formats
                }
                for turn in range(arguments.rounds + 1):
                    measured = {}
                    for way, loop in loops.items():
                        loop.send("an epoch")
                        measured[way] = loop.recv()
                    measured |= {way: ours(cohort, run, config) for way, config in ways.items()}
                    seconds = {way: f"{value[0]:.2f} s" for way, value in measured.items()}
                    print(f"{name}, round {turn}: {seconds}", flush=True)
                    for way, value in measured.items():
                        # The first round warms up.
                        taken[way] += [value] if turn else []
            for way, values in taken.items():
                plain = taken[f"plain, {way.partition(', ')[2]}"]
                ratios = [before[0] / now[0] for before, now in zip(plain, values, strict=True)]
                rows.append(
                    {
                        "network": name,
                        "loop": way,
                        "s an epoch": Spread.of([seconds for seconds, _ in values]),
                        "times as fast, in that format": Spread.of(ratios),
                        "waiting, %": Spread.of([100 * share for _, share in values]),
                    }
                )
    height, width = arguments.size
    leave("train", f"{arguments.images} images of {height} x {width}", rows, arguments.out)


if __name__ == "__main__":
    main()

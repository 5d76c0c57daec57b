"""One network trained by two processes: equal weights in both, and one run on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import torch

from mammoscope.artefacts import write_json
from mammoscope.cohort.manifest import write_manifest, write_rejects
from mammoscope.cohort.store import write_prepared
from mammoscope.config import PreprocessConfig
from mammoscope.preprocessing import Geometry, PreparedImage

SIZE = (64, 32)

# Each process leaves what it ended with: Lightning starts this very file once more.
SCRIPT = """
import os, sys
from pathlib import Path

import torch

from mammoscope.config import load_config
from mammoscope.training import fit
from mammoscope.training.callbacks import History

ended = History.on_train_end

def leave(self, trainer, module):
    ended(self, trainer, module)
    path = Path(sys.argv[2]).parent / f"weights-{trainer.global_rank}.pt"
    torch.save(module.network.state_dict(), path)

History.on_train_end = leave
config = load_config(None, sys.argv[3:])
fit(Path(sys.argv[1]), Path(sys.argv[2]), config, 0, bar=False)
"""


def written(folder: Path) -> Path:
    rows, splits = [], []
    geometry = Geometry.fit(SIZE, (0, 0, SIZE[1], SIZE[0]), SIZE, mirrored=False)
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        name, cancer = f"i{number:03}", number // 2 % 2
        noise = torch.randint(20, 90, SIZE, generator=generator) + 120 * cancer
        pixels = noise.to(torch.uint8).numpy()
        prepared = PreparedImage(pixels, geometry, 0.5, 1.0, ("left",), 1.0)
        write_prepared(folder / "images", name, prepared)
        ids = {"image_id": name, "patient_id": name}
        rows.append({**ids, "exam_id": name, "path": name, "laterality": "L", "view": "CC"})
        rows[-1]["cancer"] = cancer
        splits.append({**ids, "split": "train", "fold": number % 2})
    write_manifest(folder, rows)
    write_rejects(folder, [])
    pl.DataFrame(splits).write_parquet(folder / "splits.parquet")
    about = {"format_version": 1, "kind": "cohort", "synthetic": True, "eligibility": {}}
    write_json(folder / "cohort.json", about)
    preprocess = PreprocessConfig(height=SIZE[0], width=SIZE[1])
    write_json(folder / "images/prepare.json", {"preprocess": preprocess.model_dump(mode="json")})
    return folder


def test_two_processes_train_one_network_and_leave_one_run(tmp_path):
    cohort, run, script = written(tmp_path / "cohort"), tmp_path / "run", tmp_path / "train.py"
    script.write_text(SCRIPT)
    settings = (
        "model.backbone=baseline_cnn", "model.pretrained=false", "train.epochs=1",
        "train.batch_size=2", "train.devices=2", "train.strategy=ddp", "train.precision=32-true",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script), str(cohort), str(run), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"weights-{n}.pt", weights_only=True) for n in (0, 1))
    own = {name for name in first if "running" not in name and "num_batches" not in name}
    assert all(torch.equal(first[name], second[name]) for name in own)
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "trained"
    assert facts["devices"] == {"count": 2, "kind": "cpu"}
    assert (run / "history.csv").read_text().count("\n") == 2

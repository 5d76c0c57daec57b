"""The long run: cases in a worker process that may crash, hang or grow, and is watched.

    make fuzz                          5,000 cases and a table of what became of them
    make fuzz CASES=20000 SEED=7
    PYTHONPATH=tests python -m fuzz.harness --seed 7 --only 1234

A crash of native code, more than five seconds of processor time, more than two gigabytes of
memory, an exception that is no refusal, or a broken promise of ``check.py`` is a fault: the file
is kept in the output folder with what is known of it, a new worker goes on with the next case,
and the exit status is 1.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from fuzz.cases import Case, draw_case
from fuzz.check import RULES, SIZE, Outcome, outcome_of

MOST_SECONDS, MOST_BYTES = 5.0, 2_000_000_000
# A machine may be busy with others: the wall's clock counts only where nothing moves at all.
_MOST_WALL_SECONDS = 60.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Measured:
    """An outcome and what it took."""

    case: Case
    outcome: Outcome
    seconds: float
    peak_bytes: int


class Worker:
    """One process that answers one case after the other.

    Args:
        scratch: Where it may write.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._start()

    def _start(self) -> None:
        # What a killed worker left there.
        shutil.rmtree(self._scratch, ignore_errors=True)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._scratch), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self._watched = psutil.Process(self._process.pid)

    def run(self, case: Case) -> Measured:
        """Answer a case, whatever it does to the process."""
        begun, before = time.monotonic(), _seconds(self._watched)
        self._pipe.send(case)
        peak = 0
        fault = None
        try:
            while not self._pipe.poll(_POLL_SECONDS):
                peak = max(peak, self._watched.memory_info().rss)
                if peak > MOST_BYTES:
                    fault = Outcome("FAULT", "memory", f"more than {MOST_BYTES} bytes")
                elif _seconds(self._watched) - before > MOST_SECONDS:
                    fault = Outcome("FAULT", "hang", f"more than {MOST_SECONDS} s of processor")
                elif time.monotonic() - begun > _MOST_WALL_SECONDS:
                    fault = Outcome("FAULT", "hang", f"no answer in {_MOST_WALL_SECONDS} s")
                if fault:
                    break
            else:
                outcome, highest = self._pipe.recv()
                seconds = _seconds(self._watched) - before
                # Polling misses what lasts for milliseconds; the kernel does not.
                if highest > MOST_BYTES:
                    outcome = Outcome("FAULT", "memory", f"{highest} bytes")
                elif seconds > MOST_SECONDS:
                    outcome = Outcome("FAULT", "hang", f"{seconds:.1f} s of processor")
                return Measured(case, outcome, seconds, highest)
        except (EOFError, OSError, psutil.NoSuchProcess):
            self._process.join(10)
            said = self._scratch.with_name("stderr.txt").read_text(errors="replace")[-3000:]
            text = f"the process ended with {self._process.exitcode}\n{said}"
            fault = Outcome("FAULT", "crash", text)
        self.close()
        taken = time.monotonic() - begun
        self._start()
        return Measured(case, fault or Outcome("FAULT", "crash", ""), taken, peak)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _work(pipe: Connection, scratch: Path) -> None:
    """Answer cases until the pipe is closed; the body of the watched process."""
    import os

    from fixtures.bundles import write_brightness_bundle
    from mammoscope.inference import load_bundle

    # Codecs write to standard error as they please.
    log = scratch.with_name("stderr.txt").open("w")
    os.dup2(log.fileno(), 2)
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        rules = RULES.eligibility.model_dump(mode="json")
        bundle = write_brightness_bundle(Path(folder), SIZE.height, SIZE.width, rules)
        predictor = load_bundle(bundle, threads=1)
    pipe.send("ready")
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        log.truncate(0)
        _forget_peak()
        pipe.send((outcome_of(case, scratch, predictor), _peak()))


def _forget_peak() -> None:
    """Start the kernel's high-water mark anew (man 5 proc, clear_refs)."""
    mark = Path("/proc/self/clear_refs")
    if mark.exists():
        mark.write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def run(seed: int, numbers: Iterator[int], out: Path, minutes: float) -> list[Measured]:
    """Run cases, for as long as is given, and keep every faulty one under ``out``."""
    results: list[Measured] = []
    end = time.monotonic() + 60 * minutes
    # Cases of the run lie beside nothing else: they are bad files, and many.
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder) / "case")
        for number in numbers:
            if time.monotonic() > end:
                break
            measured = worker.run(draw_case(seed, number))
            results.append(measured)
            if measured.outcome.stage == "FAULT":
                _keep(measured, out)
            if len(results) % 250 == 0:
                faults = sum(m.outcome.stage == "FAULT" for m in results)
                print(f"{len(results)} cases, {faults} faults", file=sys.stderr, flush=True)  # noqa: T201
        worker.close()
    return results


def _keep(measured: Measured, out: Path) -> None:
    case, outcome = measured.case, measured.outcome
    name = f"{case.seed}-{case.number}-{case.mutation}-{outcome.reason}"
    (out / f"{name}{case.suffix}").write_bytes(case.data)
    (out / f"{name}.txt").write_text(f"{case.origin}\n{outcome.message}\n")
    print(f"FAULT {name} (from {case.origin})", file=sys.stderr, flush=True)  # noqa: T201


def write_report(results: list[Measured], seed: int, out: Path) -> str:
    """Write every outcome as CSV and the counts as JSON; returns the counts as a table."""
    with (out / "outcomes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["number", "origin", "mutation", "stage", "reason", "seconds", "peak_mb", "message"]
        )
        for m in results:
            facts = [m.case.number, m.case.origin, m.case.mutation, *asdict(m.outcome).values()]
            cost = [round(m.seconds, 3), m.peak_bytes // 1_000_000]
            writer.writerow([*facts[:5], *cost, facts[5]])
    ends = Counter((m.outcome.stage, m.outcome.reason) for m in results)
    by_mutation: dict[str, Counter[str]] = {}
    for m in results:
        end = m.outcome.reason if m.outcome.stage != "accepted" else "accepted"
        by_mutation.setdefault(m.case.mutation, Counter())[end] += 1
    summary = {
        "seed": seed,
        "cases": len(results),
        "outcomes": {" ".join(end).strip(): count for end, count in ends.most_common()},
        "most_seconds": round(max(m.seconds for m in results), 2),
        "most_bytes": max(m.peak_bytes for m in results),
        "mutations": {name: dict(by_mutation[name]) for name in sorted(by_mutation)},
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    lines = ["| outcome | cases |", "| --- | --- |"]
    lines += [f"| {name} | {count} |" for name, count in summary["outcomes"].items()]
    lines += ["", "| mutation | outcomes |", "| --- | --- |"]
    for name, counts in summary["mutations"].items():
        said = ", ".join(f"{end} {n}" for end, n in Counter(counts).most_common())
        lines.append(f"| {name} | {said} |")
    lines += ["", f"longest {summary['most_seconds']} s, largest {summary['most_bytes'] >> 20} MiB"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Bad files through ingest, prepare and predict.")
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after as many")
    parser.add_argument("--only", type=int, nargs="*", help="these cases alone, by number")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    numbers = options.only or range(options.cases)
    results = run(options.seed, iter(numbers), options.out, options.minutes)
    print(write_report(results, options.seed, options.out))  # noqa: T201
    return int(any(m.outcome.stage == "FAULT" for m in results))


if __name__ == "__main__":
    sys.exit(main())

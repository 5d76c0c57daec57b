"""A synthetic screening population beside the real rates: no image is drawn.

    python benchmarks/population.py --patients 12000

Printed for each table of rates (aggregates of the RSNA challenge's training table): how many
women, breasts or images were drawn, chi-square with its degrees of freedom and p value, and
the largest difference between a drawn and a real share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mammoscope.cohort.synthetic.comparison import compare_population, draw_population
from measure import leave


def main() -> None:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    words = parser.parse_args()
    records = draw_population(words.patients, seed=words.seed)
    rows = [
        {
            "table": one.table,
            "drawn": one.count,
            "chi-square": f"{one.chi_square:.1f}",
            "df": one.degrees,
            "p": f"{one.p_value:.3f}",
            "largest deviation": f"{one.deviation:.4f}",
            "where": one.cell,
            "synthetic": f"{one.drawn:.4f}",
            "real": f"{one.real:.4f}",
        }
        for one in compare_population(records)
    ]
    title = f"SYNTHETIC population of {words.patients:,} women, seed {words.seed}, and real rates"
    leave("population", title, rows, words.out)


if __name__ == "__main__":
    main()

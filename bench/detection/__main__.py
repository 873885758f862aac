"""What our rules find in attacks that nobody here wrote.

    python bench/detection [--data DIR] [--part techniques|labelled] [--json FILE]

Two parts, each with the bar it is to keep, over recordings that lie beside the project; a part whose
recordings are not there is left out and says so. Exit code 1 where a bar is missed.

- techniques (`techniques.yaml`): recorded attacks, user agents blanked, go through ingest and `detect`. Of
  each listed technique an alert of Medium or more must name it and rest on its rows: 95 %. Alerts of Medium
  or more that rest on no attack are listed.
- labelled cases (`panther.yaml`): single events with a rule idea and whether it is to fire. One of our rules
  that stand for the idea must fire in 80 % of the cases that should, none in 90 % of those that should not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "src"))

import labelled
import techniques

HERE = Path(__file__).parent
DATA = HERE.parent.parent.parent / "shared" / "data"
PARTS = {"techniques": techniques.measure, "labelled": labelled.measure}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the recordings")
    parser.add_argument("--json", type=Path, help="also write all figures and misses here")
    parser.add_argument("--part", choices=PARTS, help="only this part")
    given = parser.parse_args()
    figures: dict[str, object] = {}
    kept = True
    for name, measure in PARTS.items():
        if given.part in (None, name):
            started = time.perf_counter()
            found = measure(given.data)
            if found is None:
                print(f"{name}: left out, its recordings are not in {given.data}")
                continue
            print(f"\n{name}, {time.perf_counter() - started:.0f} s\n")
            print("\n".join(found.lines()))
            figures[name] = found.figures()
            kept &= found.kept
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())

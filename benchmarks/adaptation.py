"""How soon is a new style there? `train.py` from trained weights and from scratch, by whole minutes.

    python benchmarks/adaptation.py PAINTING... --photos DIR --val DIR [--base 2 5] [--scratch 5 60] [--init NAME]

Every run is `train.py` as a user starts it, in a process of its own, and its time is that from the start of the process
to the written model. Minutes limit the training; 0 stands for the default settings. The losses are those of the
finished model on the validation photos, from its card; the total is the loss that training minimises. The paintings
should be none that the weights learned. Runs that OUT holds already are not made again. Time nothing beside other work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def learn(painting: str, minutes: int, start: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """One run: its seconds as a whole, its steps, and its losses; kept beside its model."""
    beginning = "scratch" if "--from-scratch" in start else Path(options.init or "base").stem
    name = f"{Path(painting).stem}-{options.net}-{beginning}-{minutes}"
    kept: Path = options.out / f"{name}.run.json"
    if not kept.exists():
        limit = ["--max-time", f"{minutes // 60:02}:{minutes % 60:02}:00"] if minutes else []
        photos = ["--data", options.photos, "--val-data", options.val, "--net", options.net]
        where = ["--name", name, "--out", str(options.out), "--runs", str(options.out / "runs")]
        before = time.perf_counter()
        subprocess.run([sys.executable, ROOT / "train.py", painting, *photos, *where, *start, *limit], check=True)
        seconds = time.perf_counter() - before
        card = json.loads((options.out / f"{name}.json").read_text())
        run = {"seconds": seconds, "steps": card["training"]["steps"], **card["metrics"]}
        kept.write_text(json.dumps(run, indent=2) + "\n")
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", nargs="+", metavar="PAINTING")
    parser.add_argument("--photos", required=True, help="folder of photos to learn from")
    parser.add_argument("--val", required=True, help="folder of photos to judge by")
    parser.add_argument("--net", default="fast")
    parser.add_argument("--init", help="weights to start from instead of the base")
    parser.add_argument("--base", type=int, nargs="*", default=[2, 0], help="minutes of the runs from trained weights")
    parser.add_argument("--scratch", type=int, nargs="*", default=[60], help="minutes of the runs from scratch")
    parser.add_argument("--out", type=Path, default=Path("out/adaptation"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    from_weights = ["--init", options.init] if options.init else []
    print("| painting | start | limit | whole run, s | steps | total | content | style | relu4_3 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for painting in options.paintings:
        runs = [("trained weights", from_weights, minutes) for minutes in options.base]
        runs += [("scratch", ["--from-scratch"], minutes) for minutes in options.scratch]
        for label, start, minutes in runs:
            run = learn(painting, minutes, start, options)
            cells = [Path(painting).stem, label, f"{minutes} min" if minutes else "default", f"{run['seconds']:.0f}"]
            cells.append(str(run["steps"]))
            cells += [f"{run[term]:.3f}" for term in ("total", "content", "style", "style_relu4_3")]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""``make demo``: the main job end to end, on three real photographs.

Gets the photographs, trains mini-fcn8s on them, segments them with infer.py, and lays photograph,
truth and prediction side by side in demo/out/.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import images
import score
import vis
from feed import class_names
from files import read_lines

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data/pascal/sample/VOC2011"
MODEL = ROOT / "mini-fcn8s"
OUT = ROOT / "demo/out"


def run(title: str, *command) -> None:
    """Announce a step, show the command as one would type it, run it, and stop if it fails."""
    print(f"\n{title}\n$ python {' '.join(map(str, command))}", flush=True)
    status = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """The four steps."""
    start = time.monotonic()
    run("1. Three photographs of PASCAL VOC 2011, with their masks", "data/pascal/prepare.py", "sample")
    run("2. Train FCN-8s, an eighth as wide, from random weights", "mini-fcn8s/solve.py")
    ids = read_lines(SAMPLE / "ImageSets/Segmentation/val.txt", "split file")
    photos = [SAMPLE / "JPEGImages" / f"{name}.jpg" for name in ids]
    run(
        "3. Segment the photographs",
        "infer.py",
        *(path.relative_to(ROOT) for path in photos),
        "--model",
        "mini-fcn8s",
        "--out",
        OUT.relative_to(ROOT),
    )

    print("\n4. Compare with the masks")
    names = class_names("pascal")
    hist = 0
    rows = []
    for name, photo in zip(ids, photos, strict=True):
        truth = images.load_label(SAMPLE / "SegmentationClass" / f"{name}.png")
        prediction = images.load_label(OUT / f"{name}.png")
        hist = hist + score.fast_hist(truth, prediction, len(names))
        rows.append((images.load_image(photo), truth, prediction))
    vis.contact_sheet(rows, names, OUT / "contact_sheet.png")
    print(score.metrics_table(hist))
    print(
        "The net was trained on these very photographs, so this shows that it learns, not how well it would do on\n"
        "others. README.md tells how to train on PASCAL VOC and score on images that the net has not seen."
    )
    print(
        f"\nLook at {(OUT / 'contact_sheet.png').relative_to(ROOT)}  ({time.monotonic() - start:.0f} s in all)"
    )


if __name__ == "__main__":
    main()

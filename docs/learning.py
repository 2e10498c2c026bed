"""Make learning.png, the picture at the top of the README: mini-fcn8s's predictions as it trains.

It shows predictions and truth only; the photographs themselves are not ours to publish.

    python docs/learning.py        (after `make demo`, which gets the photographs; two minutes)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw

import images
import vis
from feed import class_names
from files import read_lines

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data/pascal/sample/VOC2011"
STOPS = (20, 60, 100, 200, 300)  # iterations; the run is resumed at each, which changes nothing in it
CELL, GAP, TOP = 230, 10, 34


def python(*command) -> None:
    """Run a script of the project; leave when it fails."""
    status = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Train from stop to stop, segment at each, and lay the predictions out beside the truth."""
    palette = vis.make_palette(len(class_names("pascal")))
    ids = read_lines(SAMPLE / "ImageSets/Segmentation/val.txt", "split file")
    photos = [SAMPLE / "JPEGImages" / f"{name}.jpg" for name in ids]
    columns, snapshot = [], ()
    for stop in STOPS:
        python("mini-fcn8s/solve.py", "--iterations", stop, *snapshot)
        snapshot = ("--snapshot", f"mini-fcn8s/snapshot/train_iter_{stop}.solverstate")
        weights = ROOT / f"mini-fcn8s/snapshot/train_iter_{stop}.caffemodel"
        out = ROOT / "build/learning" / str(stop)
        python("infer.py", *photos, "--model", "mini-fcn8s", "--weights", weights, "--out", out)
        columns.append((f"{stop} iterations", [images.load_label(out / f"{name}.png") for name in ids]))
    truth = [images.load_label(SAMPLE / "SegmentationClass" / f"{name}.png") for name in ids]
    columns.append(("truth", truth))

    heights = [round(CELL * label.shape[0] / label.shape[1]) for label in truth]
    size = (len(columns) * (CELL + GAP) + GAP, TOP + sum(heights) + len(heights) * GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = vis.typeface(17)
    for i, (title, labels) in enumerate(columns):
        x, y = GAP + i * (CELL + GAP), TOP
        draw.text((x + CELL // 2, TOP // 2), title, "#333333", font, anchor="mm")
        for label, height in zip(labels, heights, strict=True):
            picture = Image.fromarray(vis.color_seg(label, palette)).resize(
                (CELL, height), Image.Resampling.LANCZOS
            )
            sheet.paste(picture, (x, y))
            y += height + GAP
    vis.save(ROOT / "docs/learning.png", sheet)
    print("wrote docs/learning.png")


if __name__ == "__main__":
    main()

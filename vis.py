"""Pictures of segmentations: palettes, indexed PNG files, overlays with a legend, contact sheets.

python vis.py curves RUN...     draws the losses and scores of training runs (see curves.py)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from files import replacing

VOID = 255  # the index of void pixels, drawn in VOC's (224, 224, 192)
INK, FAINT, PAPER = (32, 33, 36), (110, 114, 120), (255, 255, 255)


def make_palette(classes: int) -> np.ndarray:
    """VOC's colours of the classes 0..classes-1: uint8 RGB, classes x 3.

    Bit 3k of a class's number is bit 7-k of its red, bit 3k+1 of its green, bit 3k+2 of its blue,
    for any number of classes up to 2**24; all colours differ. Row 255 is the void colour.
    """
    index = np.arange(classes)
    palette = np.zeros((classes, 3), np.uint8)
    for k in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * k + channel) & 1) << (7 - k)).astype(np.uint8)
    return palette


def _full(palette: np.ndarray) -> np.ndarray:
    """``palette`` for every 8-bit index: black where it says nothing, void at 255."""
    full = np.zeros((256, 3), np.uint8)
    full[VOID] = make_palette(256)[VOID]
    full[: len(palette)] = palette[:256]
    return full


def _indices(seg: np.ndarray) -> np.ndarray:
    seg = np.asarray(seg)
    if seg.ndim != 2 or seg.size == 0 or seg.min() < 0 or seg.max() > 255:
        raise ValueError(
            f"a segmentation is H x W with indices from 0 to 255; this one is {' x '.join(map(str, seg.shape))}"
            + (f" from {seg.min()} to {seg.max()}" if seg.size else "")
        )
    return seg.astype(np.uint8)


def color_seg(seg: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Class indices (H x W) as colours: uint8 RGB, H x W x 3; 255 in the void colour."""
    return _full(palette)[_indices(seg)]


def vis_seg(image: np.ndarray, seg: np.ndarray, palette: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """The photograph with the segmentation laid over it: uint8 RGB, H x W x 3.

    Every class but 0 (background) is mixed in with weight ``alpha``; its outline is solid.
    ``image`` is uint8 RGB of the size of ``seg``.
    """
    seg = _indices(seg)
    if image.shape != (*seg.shape, 3):
        raise ValueError(f"image {image.shape} and segmentation {seg.shape} are not of one size")
    color = color_seg(seg, palette)
    weight = np.where(seg == 0, 0.0, alpha)
    reach = max(1, round(max(seg.shape) / 500))
    weight[_outline(seg, reach) & (seg != 0)] = 1
    weight = weight[:, :, np.newaxis]
    return np.rint(image * (1 - weight) + color * weight).astype(np.uint8)


def _outline(seg: np.ndarray, reach: int) -> np.ndarray:
    """Which pixels lie within ``reach`` of a pixel of another class, left, right, above or below."""
    edge = np.zeros(seg.shape, bool)
    for near, far in (
        (np.s_[:, :-reach], np.s_[:, reach:]),
        (np.s_[:-reach], np.s_[reach:]),
    ):
        differ = seg[near] != seg[far]
        edge[near] |= differ
        edge[far] |= differ
    return edge


def shares(seg: np.ndarray) -> list[tuple[int, float]]:
    """The classes in a segmentation with their share of its pixels (0..1), the largest first; 255 too."""
    counts = np.bincount(_indices(seg).ravel(), minlength=256)
    order = sorted(np.flatnonzero(counts), key=lambda i: (-counts[i], i))
    return [(int(i), counts[i] / seg.size) for i in order]


def class_name(names: Sequence[str], index: int) -> str:
    """The name of a class; ``void`` for 255, ``class 7`` where there is no name."""
    if index < len(names):
        return names[index]
    return "void" if index == VOID else f"class {index}"


def percent(share: float) -> str:
    """A share of pixels in the form that every picture and listing prints, such as ``12.3%``."""
    return f"{100 * share:.1f}%" if share >= 0.0005 else "<0.1%"


def save(path: str | os.PathLike, image: Image.Image | np.ndarray) -> None:
    """Write a picture; its format follows from the suffix. The file is whole or it is not there."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    with replacing(path) as temporary:
        image.save(temporary)


def save_indexed(path: str | os.PathLike, seg: np.ndarray, palette: np.ndarray) -> None:
    """Write class indices (H x W, 0..255) as an 8-bit palette PNG, as VOC stores labels."""
    image = Image.fromarray(_indices(seg))
    image.putpalette(_full(palette).tobytes())
    save(path, image)


def overlay(
    image: np.ndarray, seg: np.ndarray, names: Sequence[str], palette: np.ndarray | None = None
) -> Image.Image:
    """:func:`vis_seg` above a legend: colour, name and share of pixels of every class there is."""
    palette = make_palette(max(len(names), 1)) if palette is None else palette
    height, width = seg.shape
    font = typeface(min(40, max(13, width // 32)))
    entries = [(i, percent(share)) for i, share in shares(seg)]
    margin = font.size // 2
    legend = _legend(entries, names, palette, max(width, 240) - 2 * margin, font)
    sheet = Image.new("RGB", (max(width, 240), height + legend.height), PAPER)
    sheet.paste(Image.fromarray(vis_seg(image, seg, palette)), ((sheet.width - width) // 2, 0))
    sheet.paste(legend, (margin, height))
    return sheet


def contact_sheet(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    names: Sequence[str],
    path: str | os.PathLike | None = None,
    titles: Sequence[str] = ("photograph", "truth", "prediction"),
    cell: int = 420,
) -> Image.Image:
    """Photographs, truths and predictions side by side, a row each, with a legend under the row.

    ``rows`` holds (image H x W x 3 uint8 RGB, truth H x W, prediction H x W). A legend gives each
    class's share of the pixels in the truth and in the prediction. ``cell`` is the width of a
    picture in the sheet. Written to ``path`` if that is given; returned in any case.
    """
    palette = make_palette(max(len(names), 1))
    margin, gap = cell // 20, cell // 42
    width = 2 * margin + 3 * cell + 2 * gap
    heading, font = typeface(max(13, cell // 21)), typeface(max(11, cell // 26))
    top = margin + 2 * heading.size
    strips = []
    for image, truth, prediction in rows:
        height = max(1, round(cell * min(1.5, truth.shape[0] / truth.shape[1])))
        pictures = [image, color_seg(truth, palette), color_seg(prediction, palette)]
        strip = Image.new("RGB", (width, height), PAPER)
        for column, picture in enumerate(pictures):
            how = Image.Resampling.LANCZOS if column == 0 else Image.Resampling.NEAREST
            small = Image.fromarray(picture)
            scale = min(cell / small.width, height / small.height)
            small = small.resize(
                (max(1, round(small.width * scale)), max(1, round(small.height * scale))), how
            )
            strip.paste(small, (margin + column * (cell + gap) + (cell - small.width) // 2, 0))
        true, found = dict(shares(truth)), dict(shares(prediction))
        entries = [
            (
                i,
                f"{percent(true[i]) if i in true else 'none'} / {percent(found[i]) if i in found else 'none'}",
            )
            for i in [*true, *(i for i in found if i not in true)]
            if i != VOID
        ]
        entries += [(VOID, percent(true[VOID]))] if VOID in true else []
        strips += [strip, _legend(entries, names, palette, width - 2 * margin, font)]
    height = top + sum(strip.height for strip in strips) + 2 * font.size + margin // 2
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        x = margin + column * (cell + gap) + cell // 2
        draw.text((x, margin + heading.size // 2), title, INK, heading, anchor="mm")
    y = top
    for n, strip in enumerate(strips):
        sheet.paste(strip, (0 if n % 2 == 0 else margin, y))
        y += strip.height
    caption = f"share of pixels: {titles[1]} / {titles[2]}"
    draw.text((margin, y + font.size), caption, FAINT, font, anchor="lm")
    if path is not None:
        save(path, sheet)
    return sheet


def typeface(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _legend(entries, names, palette, width, font) -> Image.Image:
    """(class, text) pairs as coloured squares with name and text, in as many lines as needed."""
    size = font.size
    line, square, pad = round(1.9 * size), round(0.95 * size), round(0.5 * size)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    placed, x, y = [], 0, round(0.5 * size)
    for index, text in entries:
        name = class_name(names, index)
        name_width = measure.textlength(name, font)
        needed = square + pad + name_width + pad + measure.textlength(text, font)
        if x and x + needed > width:
            x, y = 0, y + line
        placed.append((x, y, index, name, name_width, text))
        x += needed + 3 * pad
    legend = Image.new("RGB", (width, y + line + round(0.7 * size)), PAPER)
    draw = ImageDraw.Draw(legend)
    colors = _full(palette)
    for x, y, index, name, name_width, text in placed:
        middle = y + line / 2
        box = (x, middle - square / 2, x + square, middle + square / 2)
        draw.rounded_rectangle(box, square / 5, tuple(int(c) for c in colors[index]), outline=FAINT)
        draw.text((x + square + pad, middle), name, INK, font, anchor="lm")
        draw.text((x + square + 2 * pad + name_width, middle), text, FAINT, font, anchor="lm")
    return legend


if __name__ == "__main__":
    from curves import main

    sys.exit(main())

"""A picture of what the synthetic twins show, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

import vis
from datakit import outdoors, scenes
from datakit.twin_pascal import Pascal
from datakit.twins import Nyud, Twins, hha

CELL, GAP = 240, 4  # pixels


def draw(twins: Twins) -> Image.Image:
    """Some of everything: photographs, and beside them what is known of each.

    VOC: classes. Crops. NYUDv2: classes, depth as measured, HHA. SIFT Flow: semantic and geometric classes.
    """
    colors = vis.make_palette(256)
    voc, seed = Pascal(twins), twins.seed
    strips = [(6, CELL, []), (12, CELL // 2, []), (4, CELL * 3 // 2, []), (6, CELL, [])]
    objects, crops, rooms, views = (cells for _, _, cells in strips)
    for name in list(voc.index)[:12]:
        scene = voc.scene(name)
        objects += [scene.image, vis.color_seg(scene.label, colors)]
    crops += [scenes.crop(seed, i, (96, 96), twins.classes)[0] for i in range(24)]
    for name in ("5001", "5002", "5003"):
        room = Nyud(twins).room(name)
        depth = (room.raw // 40).clip(0, 255).astype(np.uint8)
        depth = np.repeat(depth[:, :, None], 3, 2)
        rooms += [room.image, vis.color_seg(room.label, colors), depth, hha()(room.depth, room.raw, "full")]
    for i in (0, 2, 3, 4, 5, 6):
        view = outdoors.view(seed, i)
        both = (view.semantic, np.maximum(view.geometric, 0))
        views += [view.image, *(vis.color_seg(label, colors) for label in both)]
    parts = [_grid(*strip) for strip in strips]
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), vis.PAPER)
    for n, part in enumerate(parts):
        sheet.paste(part, (0, sum(before.height for before in parts[:n])))
    return sheet


def _grid(columns: int, cell: int, pictures: Sequence[np.ndarray]) -> Image.Image:
    """Pictures in rows, each as large as fits into a cell of 4 to 3, or a square if the first is one."""
    high = cell if pictures[0].shape[0] == pictures[0].shape[1] else cell * 3 // 4
    sheet = Image.new("RGB", (columns * cell, -(-len(pictures) // columns) * high), vis.PAPER)
    for n, each in enumerate(pictures):
        picture = Image.fromarray(each)
        scale = min((cell - GAP) / picture.width, (high - GAP) / picture.height)
        how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), how)
        left, top = n % columns * cell, n // columns * high
        sheet.paste(picture, (left + (cell - picture.width) // 2, top + (high - picture.height) // 2))
    return sheet

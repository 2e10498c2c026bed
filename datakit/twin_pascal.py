"""Synthetic twins of VOC 2010, 2011 and 2012, of SBD, and of PASCAL-Context: one stock of photographs for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datakit import layouts, scenes, splits
from datakit.labels import CONTEXT_IDS
from datakit.twins import Drawn, Twins

SPLITS = ("train", "val")
OTHERS = (1, 3, 100, 205, 300)  # of PASCAL-Context's 459, some that are none of the 59
GROUNDS = 39 + len(OTHERS)  # the classes that are no objects of VOC's, and the others


class Photo(NamedTuple):
    """A photograph: its number in the stock, its id, and where it is listed, "" for nowhere.

    ``since``: the first year of VOC, 2011 or 2012, that has it in ``segmentation``. ``main``: the list of
    ImageSets/Main, in VOC 2010 too if it is ``old``.
    """

    index: int
    name: str
    since: int
    segmentation: str
    sbd: str
    main: str
    old: bool


def stock(n: int) -> list[Photo]:
    """The photographs where VOC 2011's train and val have ``n`` each.

    As in truth: some of VOC 2011's val are in SBD's train, and what is not is seg11valid; some of it is not in SBD at
    all, from 2007; VOC 2012 lists what 2011 does and more; VOC 2010 and SBD have nothing that VOC 2011 has not.
    """
    third, most = round(n / 3), round(n * 0.77)
    groups = {  # (since, segmentation, SBD): how many; the first 2 n are VOC 2011's
        (2011, "val", ""): third,
        (2011, "train", ""): n - most,
        (2011, "val", "val"): third,
        (2011, "val", "train"): n - 2 * third,
        (2011, "train", "train"): most,
        (0, "", "train"): n,
        (0, "", "val"): n // 2,
        (2012, "train", "train"): third,
        (2012, "val", "train"): third // 2,
        (2012, "val", "val"): third - third // 2,
    }
    of = [group for group, count in groups.items() for _ in range(count)]
    alone = third + n - most
    both = of[alone : 2 * n]
    of[alone : 2 * n] = both[::3] + both[1::3] + both[2::3]  # so that VOC 2010 gets some of all
    # twenty scenes from a multiple of twenty on show all objects; PASCAL-Context is to have them
    first = max(20, -(-alone // 20) * 20)
    made = []
    for i, (since, segmentation, sbd) in enumerate(of):
        old = first <= i < first + 2 * n
        year = 2007 if not sbd else 2008 + i % 3 if old else 2011
        main = (segmentation or SPLITS[i % 2]) if sbd else ""
        made.append(Photo(i, f"{year}_{(i * 7919 + 13) % 10_000:06d}", since, segmentation, sbd, main, old))
    return made


class Pascal:
    """The twins: ``voc`` and ``main`` are the lists of ImageSets/Segmentation and Main by year, ``sbd`` SBD's."""

    def __init__(self, twins: Twins):
        self.twins = twins
        photos = stock(twins.images)
        self.index = {photo.name: photo.index for photo in photos}

        def lists(key: Callable[[Photo], str], among: Callable[[Photo], bool]) -> dict[str, list[str]]:
            return {split: sorted(p.name for p in photos if key(p) == split and among(p)) for split in SPLITS}

        self.sbd = lists(lambda p: p.sbd, lambda p: True)
        self.voc = {
            2010: lists(lambda p: p.segmentation, lambda p: p.since == 2011 and p.old),
            2011: lists(lambda p: p.segmentation, lambda p: p.since == 2011),
            2012: lists(lambda p: p.segmentation, lambda p: True),
        }
        everything = lists(lambda p: p.main, lambda p: True)
        self.main = {2010: lists(lambda p: p.main, lambda p: p.old), 2011: everything, 2012: everything}
        for each in (*self.voc.values(), *self.main.values()):
            each["trainval"] = sorted({*each["train"], *each["val"]})

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a photograph: three of four lie, 4 to 3 or 3 to 2, one stands."""
        long = self.twins.size
        short = long * 2 // 3 if index % 4 == 2 else long * 3 // 4
        return (long, short) if index % 4 == 3 else (short, long)

    def scene(self, name: str) -> scenes.Scene:
        """What is to be seen on a photograph."""
        index = self.index[name]
        return scenes.scene(self.twins.seed, index, self.size(index), self.twins.classes, GROUNDS)

    def voc_tree(self, folder: Path, year: int) -> Path:
        """A year of VOC: photographs of all its lists, masks of those of segmentation."""
        masked = set(self.voc[year]["trainval"])

        def item(name: str) -> tuple:
            drawn = self.scene(name)
            if name not in masked:
                return drawn.image, None
            instances = np.where(drawn.label == scenes.VOID, np.uint8(scenes.VOID), drawn.instances)
            return drawn.image, drawn.label, instances

        content = Drawn(_all(self.voc[year], self.main[year]), item, f"VOC {year}")
        return layouts.voc_tree(folder, content, self.voc[year], self.main[year])

    def sbd_tree(self, folder: Path) -> Path:
        """SBD's folder ``dataset``."""

        def item(name: str) -> tuple:
            drawn = self.scene(name)
            return drawn.image, drawn.bare, drawn.instances

        return layouts.sbd_tree(folder, Drawn(_all(self.sbd), item, "SBD"), self.sbd)

    def context_tree(self, folder: Path) -> Path:
        """PASCAL-Context's folder, with ``trainval``: objects are VOC's classes, ground is other classes, or none."""
        ground = np.array([*CONTEXT_IDS[20:], *OTHERS])
        objects = np.array([0, *CONTEXT_IDS[:20]])

        def item(name: str) -> np.ndarray:
            drawn = self.scene(name)
            return np.where(drawn.bare > 0, objects[drawn.bare], ground[drawn.ground])

        return layouts.context_tree(folder, Drawn(_all(self.main[2010]), item, "PASCAL-Context"))

    def facts(self) -> dict[str, Any]:
        """What is true of VOC and SBD."""
        train = self.sbd["train"]
        valid = sorted(set(self.voc[2011]["val"]) - set(train))
        return {
            **{f"voc{year} {split}": len(self.voc[year][split]) for year in (2011, 2012) for split in SPLITS},
            **{f"sbd {split}": len(self.sbd[split]) for split in SPLITS},
            "sbd train sha256": splits.sha256(train),
            "seg11valid": len(valid),
            "seg11valid sha256": splits.sha256(valid),
            "voc2012 val minus sbd train": len(set(self.voc[2012]["val"]) - set(train)),
        }

    def context_facts(self) -> dict[str, Any]:
        """What is true of PASCAL-Context."""
        return {split: len(self.main[2010][split]) for split in SPLITS}


def _all(*lists: dict[str, Sequence[str]]) -> list[str]:
    return sorted({name for each in lists for names in each.values() for name in names})

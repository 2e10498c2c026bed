"""The report on one's own data: what there is, what would make training go wrong, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from datakit import bands, checks, masks, meaning, own, remap
from datakit.checks import Table
from files import DataError
from images import IGNORE

FEW = 10  # labelled pixels
# what ``remap`` mends; all else is for people
MENDED = {"mask names", "mask formats", "mask modes", "mask values"}


class Check:
    """One pass over the images and masks of ``folder``: the ``table`` of facts, and the ``meaning`` of the masks."""

    def __init__(self, folder: own.Folder):
        self.folder, self.table = folder, Table(f"images {folder.images}, masks {folder.masks}")
        self.photos, self.sights, self.meaning, self.mends = {}, {}, meaning.Meaning("values", {}), False
        self._names()
        if not folder.pairs:
            return
        self.photos = self._read("images", 0, bands.look)
        self.sights = self._read("masks", 1, masks.look)
        self._images()
        self._sizes()
        self._files()
        self._values()
        self._classes()
        self._copies()
        self._lists()

    def _read(self, what: str, which: int, function) -> dict:
        read = {}

        def one(name: str) -> None:
            read[name] = function(self.folder.pairs[name][which])

        _, wrong = checks.over(self.folder.pairs, one, f"reading {what}")
        fix = "copy or export them again, or take them away"
        self.table.none(f"{what} readable", wrong, len(self.folder.pairs), what, fix)
        return {name: read[name] for name in self.folder.pairs if name in read}

    def _some(self, names: Sequence[str], what: str) -> str:
        return (
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            if names
            else ""
        )

    def _names(self) -> None:
        folder, table = self.folder, self.table
        parts = [f"{len(folder.pairs)} images with masks", self._some(folder.alone, "without, left out")]
        table.fact(
            "pairs",
            "; ".join(filter(None, parts)),
            holds=bool(folder.pairs),
            fix="call masks as their images are",
        )
        masks_there = len(folder.pairs) + len(folder.strays)
        table.none(
            "masks' images",
            folder.strays,
            masks_there,
            "masks",
            "call them as their images",
        )
        table.none(
            "one file each",
            folder.twice,
            len(folder.pairs) + len(folder.alone) + len(folder.twice),
            "images",
            "take one of each away",
        )
        if folder.others:
            table.fact("other files", self._some(folder.others, "passed over"))
        called = ", ".join(f"{count} end in {end}" for end, count in folder.endings.most_common(3))
        table.fact(
            "mask names",
            called or "as their images",
            holds=not called,
            fix="remap calls them as their images are",
        )

    def _images(self) -> None:
        kinds = Counter((photo.mode, photo.channels) for photo in self.photos.values())
        found = ", ".join(
            f"{count} of {mode} ({channels})" for (mode, channels), count in kinds.most_common()
        )
        try:
            alike = bands.channels_of(self.photos.values())
        except DataError as error:
            self.table.fact("image modes (channels)", error, holds=False, fix="store them all alike")
            return
        mixed = "" if alike or not kinds else "; a net for them sees 3"
        self.table.fact("image modes (channels)", found + mixed)

    def _sizes(self) -> None:
        both = [name for name in self.photos if name in self.sights]
        wrong = []
        for name in both:
            photo, size = self.photos[name], self.sights[name].size
            if photo.size != size:
                turned = ", which its EXIF data turns, and its mask's do not" if photo.turned else ""
                wrong.append(f"{photo.path.name} is {_by(photo.size)}{turned}, its mask {_by(size)}")
        sizes = Counter(self.photos[name].size for name in both).most_common()
        some = ", ".join(f"{count} of {_by(size)}" for size, count in sizes[:3]) + (
            ", ..." if sizes[3:] else ""
        )
        fix = "export the masks again, in the images' sizes"
        self.table.none("sizes", wrong, len(both), f"masks as large as their images: {some}", fix)

    def _files(self) -> None:
        formats = Counter(
            sight.format if sight.path.suffix == ".png" or sight.format != "PNG" else sight.path.suffix
            for sight in self.sights.values()
        )
        modes = Counter(sight.mode for sight in self.sights.values())
        for name, found, right in (("mask formats", formats, {"PNG"}), ("mask modes", modes, {"P", "L"})):
            text = ", ".join(f"{count} {what}" for what, count in found.most_common())
            must = "PNG, .png" if name == "mask formats" else "P or L: a class index a pixel"
            self.table.fact(name, text, must, set(found) <= right, "remap writes palette PNGs")

    def _values(self) -> None:
        names, sights = self.folder.names(), list(self.sights.values())
        if not sights:
            return
        self.meaning = found = meaning.recognise(sights, len(names) if names else None)
        void = ", 255 for void" if IGNORE in found.classes else ""
        text = found.fault or f"class indices, {found.count} classes{void}"
        self.mends = any(code != number for code, number in found.classes.items()) or found.snap > 0
        fix = "remap makes class indices of them" if self.mends else "export or draw the masks again"
        self.table.fact("mask values", text, holds=not found.fault, fix=fix)
        plain = [s.path.name for s in sights if masks.counts_in(s, found.space)[0].size == 1]
        every = len(plain) == len(sights)
        text = self._some(plain, "of one value throughout") or "every mask has several"
        self.table.fact(
            "values in a mask",
            text,
            holds=not every,
            fix="masks without objects teach nothing: export them again",
        )
        if found.classes:
            self.counts = np.array([meaning.class_counts(sight, found) for sight in sights])
            bare = [
                s.path.name for s, n in zip(sights, self.counts[:, :IGNORE].sum(1), strict=True) if n < FEW
            ]
            self.table.fact(
                "labelled pixels", self._some(bare, f"with less than {FEW}") or f"{FEW} or more in every mask"
            )

    def _classes(self) -> None:
        names, count = self.folder.names(), self.meaning.count
        if names is None:
            ready = self.folder.data and not self.unready()
            found = "there is no classes.txt" + ("" if ready else "; remap writes one")
            self.table.fact("class names", found, holds=not ready, fix="write it as said below")
            return
        found, fix = f"{len(names)}: {', '.join(names[:6])}{', ...' if names[6:] else ''}", ""
        if count > len(names):
            found, fix = (
                f"{len(names)}, but the masks have {count} classes",
                f"name them all in {self.folder.classes}",
            )
        if count == len(names) + 1 and self.meaning.space == "values":
            void = " ".join(f"{code}={(code or 256) - 1}" for code in range(count))
            fix += f" (is background missing?); or, if 0 means unlabelled, remap with --map '{void}'"
        self.table.fact("class names", found, holds=not fix, fix=fix)

    def _copies(self) -> None:
        same: dict[str, list[str]] = {}
        for name, photo in self.photos.items():
            same.setdefault(photo.digest, []).append(name)
        self.same = [names for names in same.values() if len(names) > 1]
        found = self._some([" = ".join(names) for names in self.same], "images are there more than once")
        self.table.fact("copies", found or "no two images are the same")

    def _lists(self) -> None:
        lists = self.folder.lists()
        for name, ids in lists.items():
            lost = sorted(set(ids) - set(self.folder.pairs))
            fix = "a list holds ids, a line each: image names without suffix; or remove it and split again"
            self.table.none(f"{name} list", lost, len(ids), "ids, of images with masks", fix)
        digests = {
            name: {self.photos[i].digest: i for i in ids if i in self.photos} for name, ids in lists.items()
        }
        for one, other in combinations(lists, 2):
            if "trainval" in (one, other) and "test" not in (one, other):
                continue
            shared = sorted(set(lists[one]) & set(lists[other]))
            shared += [
                f"{digests[one][d]} = {digests[other][d]}"
                for d in digests[one].keys() & digests[other].keys()
                if digests[one][d] not in shared
            ]
            fix = f"take them out of one list, or remove {one}.txt and {other}.txt and split again"
            self.table.none(f"{one} and {other}", shared, len(lists[one]), "ids, all different images", fix)

    def unready(self) -> set[str]:
        """The facts that do not hold."""
        return {line.name for line in self.table.failed}

    def report(self) -> str:
        """The table of facts, what the masks hold, and how frequent the classes are."""
        parts = [str(self.table)]
        if self.sights:
            parts.append(self._histogram())
        if self.meaning.classes:
            parts.append(self._frequencies())
        return "\n\n".join(parts)

    def _histogram(self) -> str:
        space, sights = self.meaning.space, list(self.sights.values())
        counts = [masks.counts_in(sight, space) for sight in sights]
        codes, pixels, _ = masks.summed(counts)
        among = Counter(code for each in counts for code in each[0].tolist())
        what = {"values": "values", "colors": "colours (red, green, blue)", "alpha": "values of alpha"}[space]
        rows = [f"{codes.size} {what} in the masks:"]
        for i in np.argsort(-pixels, kind="stable")[:12]:
            share = 100 * pixels[i] / pixels.sum()
            rows.append(
                f"  {masks.written(codes[i], space):>11}  {share:6.2f}% of the pixels, in {among[int(codes[i])]} masks"
            )
        if codes.size > 12:
            rows.append(f"  and {codes.size - 12} rarer ones")
        return "\n".join(rows)

    def _frequencies(self) -> str:
        names = self.folder.names() or own.names_for(self.folder, self.meaning.count)
        total = max(len(names), self.meaning.count)
        names = [*names, *(f"class {number}, without name" for number in range(len(names), total))]
        counts = self.counts[:, :total]
        weights = meaning.balance(counts)
        width, pixels = max(map(len, names)), max(counts.sum(), 1)
        rows = ["classes, once the masks are remapped:" if self.mends else "classes:"]
        for number, name in enumerate(names):
            share, among = 100 * counts[:, number].sum() / pixels, np.count_nonzero(counts[:, number])
            rows.append(
                f"  {number:3}  {name:<{width}}  {share:6.2f}% of the labelled pixels, in {among} masks"
            )
        if any(code not in (number, 0) for code, number in self.meaning.classes.items()) and total > 2:
            rows.append("  Is that their order? If not, change the numbers in the command below.")
        rows += [
            "class weights (median frequency balancing), should you want them; the paper found balancing unnecessary.",
            "In the net.py of a net of full width, in the place of nets.PAPER (data/own/README.md tells more):",
            f'  nets.Recipe(class_weights={{"loss": {weights}}})',
        ]
        return "\n".join(rows)

    def next_step(self, where: Sequence[str]) -> tuple[str, str]:
        """What comes next: why, and the command; ``where``: the options that name the data."""
        failed, data, look = self.unready(), self.folder.data, own.typed(own.PREPARE, "check", *where)
        if failed == {"class names"} and self.folder.classes is None:
            lines = "".join(f"{name}\\n" for name in own.names_for(self.folder, self.meaning.count))
            name_them = f"printf {shlex.quote(lines)} > {shlex.quote(f'{data}/classes.txt')}"
            return "name the classes, by better names", f"{name_them} && {look}"
        if failed - MENDED or ("mask values" in failed and not self.mends):
            return "mend what FAILs above and remap cannot mend, as its fix says; then look again", look
        if failed or data is None:
            options = [*where, "--out", self._out(), *remap.spelled(self.meaning)]
            return "make class indices of the masks, in a new folder", own.typed(
                own.PREPARE, "remap", *options
            )
        if not {"train", "val"} <= set(self.folder.lists()):
            return "divide the images into train and val", own.typed(own.PREPARE, "split", "--data", data)
        return own.new_net(self.folder, self.photos.values())

    def _out(self) -> str:
        """A folder that is not there, or is this very remapping."""
        folder = self.folder
        data, photos = folder.data, folder.images.absolute()
        base = (
            data.absolute().with_name(f"{data.absolute().name}-prepared")
            if data
            else photos.parent / "prepared"
        )
        names = own.names_for(folder, self.meaning.count)
        for number in range(1, 1000):
            out = base.with_name(f"{base.name}{number if number > 1 else ''}")
            try:
                remap.Remapping(folder, self.meaning, names, out).is_made()
            except DataError:
                continue
            break
        return own.short(out)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"

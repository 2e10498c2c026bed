"""ImageData: images and labels from a list of image files."""

from __future__ import annotations

from ..draws import Draws, draw_seed, shuffle
from ..errors import CaffeError
from ..image_file import read_image
from ..log import logger
from ..proto import caffe_pb2
from ..registry import register
from .batches import BatchLayer, Source, about, in_folder, read_list, shard, warn_ignored


class _ListedImages(Source):
    """The images of a list, round and round; shuffled anew before each round, if asked."""

    def __init__(self, param: caffe_pb2.ImageDataParameter, transformer, phase: int):
        super().__init__(transformer, param.batch_size)
        if bool(param.new_height) != bool(param.new_width):
            raise CaffeError(
                "Current implementation requires new_height and new_width to be set at the same time; "
                f"they are {param.new_height} and {param.new_width}"
            )
        if not param.source:
            raise CaffeError("image_data_param needs a source, a file that lists images")
        self._param = param
        logger.info("Opening file %s", param.source)
        self._lines = read_list(param.source)
        self._order, self._round, self._draws = list(self._lines), 0, None
        if param.shuffle:
            logger.info("Shuffling data")
            self._draws = Draws(draw_seed())
            shuffle(self._order, self._draws.raw)
        elif shard(phase)[1] > 0 and not param.rand_skip:
            logger.warning("Shuffling or skipping recommended for multi-GPU")
        logger.info("A total of %d images.", len(self._lines))
        self._skip = draw_seed() % param.rand_skip if param.rand_skip else 0
        if self._skip:
            logger.info("Skipping first %d data points.", self._skip)
            if self._skip >= len(self._lines):
                raise CaffeError(
                    f"Not enough points to skip: rand_skip drew {self._skip}, {param.source} lists {len(self._lines)} "
                    "images; rand_skip must not exceed that"
                )

    def item(self, number):
        param = self._param
        rounds, place = divmod(self._skip + number, len(self._lines))
        self._turn_to(rounds)
        line, path, label = self._order[place]
        name = f"{param.source}, line {line}"
        with about(f"{name}: Could not load {path}"):
            path = in_folder(param.root_folder, path)
            image = read_image(path, param.is_color, param.new_height, param.new_width)
        return f"{name}: {path}", image.transpose(2, 0, 1), label

    def _turn_to(self, rounds: int) -> None:
        """Have the order of round ``rounds``: each is a shuffle of the one before."""
        if self._draws is None:
            return
        if rounds < self._round:
            self._draws.seek(0)
            self._order, self._round = list(self._lines), 0
            shuffle(self._order, self._draws.raw)
        while self._round < rounds:
            shuffle(self._order, self._draws.raw)
            self._round += 1

    def seeds(self):
        more = {"shuffle": self._draws.seed} if self._draws else {}
        return {**super().seeds(), **more, "skip": self._skip}

    def reseed(self, seeds):
        super().reseed(seeds)
        self._skip = seeds["skip"]
        if self._draws:
            self._draws = Draws(seeds["shuffle"])
            self._order, self._round = list(self._lines), 0
            shuffle(self._order, self._draws.raw)


@register("ImageData")
class ImageData(BatchLayer):
    """``batch_size`` images listed in ``source``, transformed, and their labels.

    A line of the list is a path, put after ``root_folder``, a space, and an integer label. With
    ``new_height`` and ``new_width`` images are resized to that; ``is_color`` false makes them gray.
    ``shuffle`` shuffles before each round through the list; ``rand_skip`` leaves out a random
    number, below it, of images at the start. Sizes may change from batch to batch, not within one.
    """

    exact_tops = 2

    def open(self, transformer):
        param = self.layer_param.image_data_param
        warn_ignored(self, param)
        return _ListedImages(param, transformer, self.phase)

"""Data: images and labels from an LMDB or a LevelDB."""

from __future__ import annotations

from ..database import Cursor, open_database
from ..datum import parse_datum
from ..errors import CaffeError
from ..log import logger
from ..proto import caffe_pb2
from ..registry import register
from .batches import BatchLayer, Source, about, shard, warn_ignored


class _Datums(Source):
    """The Datums of a database in the order of their keys; of several solvers, each takes its share."""

    def __init__(self, param: caffe_pb2.DataParameter, transformer, phase: int):
        super().__init__(transformer, param.batch_size)
        if not param.source:
            raise CaffeError("data_param needs a source, the database's folder")
        self._path = param.source
        self._cursor = Cursor(open_database(param.source, caffe_pb2.DataParameter.DB.Name(param.backend)))
        self._solvers, self._rank = shard(phase)

    def item(self, number):
        key, value = self._cursor.at(number * self._solvers + self._rank)
        name = f"database {self._path}, key {key.decode('utf-8', 'replace')!r}"
        with about(name):
            datum = parse_datum(value)
            return name, self.transformer.planes(datum), datum.label


@register("Data")
class Data(BatchLayer):
    """``batch_size`` Datums of the database ``source``, transformed; the second top, if any, has the labels.

    ``backend`` is LEVELDB unless the prototxt says LMDB. Keys come in their order, round and round;
    ``prefetch`` batches are made ahead. Each batch has the size of its first image, so sizes may
    change from batch to batch. Training with several solvers, solver r of n takes the items whose
    number is r modulo n. ``rand_skip`` does nothing, as in Caffe.
    """

    min_tops = 1
    max_tops = 2

    def open(self, transformer):
        param = self.layer_param.data_param
        warn_ignored(self, param)
        if param.rand_skip:
            logger.warning("layer '%s' (Data): rand_skip is ignored, as in Caffe", self.name)
        return _Datums(param, transformer, self.phase)

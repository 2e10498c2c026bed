"""Score weights that were trained elsewhere: ``python -m reproduction.scored MODEL WEIGHTS [--cpu | --gpu N]``.

It writes ``snapshot/scores.json`` here, as solve.py does where it trains.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
from caffe.proto import caffe_pb2

import nets
import options
import score
import surgery
import training
import watching


def main() -> None:
    """Score the net of a model directory, with other weights, on its validation split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("weights", type=Path)
    options.add_device(parser)
    args = parser.parse_args()
    here = Path.cwd()
    with training.one_message():
        training.choose_device(args.gpu, args.cpu)
        os.chdir(args.model)  # where its data are found from
        file = next(name for name in ("val.prototxt", "test.prototxt") if Path(name).is_file())
        param = nets.read_prototxt(file, caffe_pb2.NetParameter())
        source = training.source_of(param)
        net = caffe.Net(file, caffe.TEST)
        report = surgery.load_parent(net, str(args.weights))
        surgery.interp(net, [name for name in report.zero if name.startswith("up")])
        print(report, flush=True)
        heads = [
            score.Head(each.bottom[0], each.bottom[1], each.top[0])
            for each in param.layer
            if training.is_loss(each)
        ]
        results = score.score_heads(net, None, source.ids, heads)
        os.chdir(here)
        names = [source.class_names(head.gt) for head in heads]
        Path("snapshot").mkdir(exist_ok=True)
        watch = watching.Watch("snapshot/train", 0, [head.layer for head in heads])
        watch.scored(0, results, names, source.params["split"], len(source.ids))
        for head, scores in zip(heads, results, strict=True):
            print(f"{head.layer} mean IU {scores.metrics()['mean IU']:.6g}")


if __name__ == "__main__":
    main()

"""Train a small classifier on pictures of one object each, and make it convolutional, for nets to start from.

    python -m reproduction.pretrain --seed N [--cpu | --gpu N]

in a directory that the workshop has set up; it goes on from a snapshot.

The directory has solver.prototxt with its nets, fcn.prototxt, and where the weights go in the file ``target``.
Without a solver the weights stay random. Afterwards accuracy.json says how many of the validation pictures were told.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
from caffe.proto import caffe_pb2
from tqdm import tqdm

import files
import nets
import options
import snapshots
import surgery
import training


def trained(file: str = "solver.prototxt") -> caffe.Net:
    """The net of the solver ``file``, trained to its max_iter from the newest whole snapshot that there is."""
    param = nets.read_prototxt(file, caffe_pb2.SolverParameter())
    folder = Path(param.snapshot_prefix).parent
    folder.mkdir(parents=True, exist_ok=True)
    solver = caffe.get_solver(file)
    whole = [each for each in snapshots.found(param.snapshot_prefix) if not each.damage()]
    if whole:
        solver.restore(str(max(whole, key=lambda each: each.iteration).state))
    with tqdm(total=param.max_iter, initial=solver.iter, unit="it", disable=None) as bar:
        while solver.iter < param.max_iter:
            solver.step(1)
            bar.update()
            if solver.iter % param.display == 0:
                print(
                    f"Iteration {solver.iter}, loss = {float(solver.net.blobs['loss'].data):.4f}", flush=True
                )
    net = solver.test_nets[0]
    net.share_with(solver.net)
    batches = [float(net.forward()["accuracy"]) for _ in range(param.test_iter[0])]
    accuracy = sum(batches) / len(batches)
    print(f"accuracy {accuracy:.4f}")
    files.write("accuracy.json", json.dumps({"accuracy": accuracy}).encode())
    return solver.net


def main() -> None:
    """Train, if there is a solver, then write the weights of the convolutional form to where ``target`` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, required=True, help="of weights that stay random")
    options.add_device(parser)
    args = parser.parse_args()
    caffe.set_random_seed(args.seed)
    with training.one_message():
        training.choose_device(args.gpu, args.cpu)
        fcn = caffe.Net("fcn.prototxt", caffe.TEST)
        if Path("solver.prototxt").is_file():
            print(surgery.transplant(fcn, trained()))
        with files.replacing(Path("target").read_text().strip()) as temporary:
            fcn.save(str(temporary))


if __name__ == "__main__":
    main()

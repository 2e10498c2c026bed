"""Fixtures of the engine's tests."""

import itertools
import logging

import caffe
import pytest
from caffe.log import logger


@pytest.fixture
def make_net(tmp_path):
    """``make_net(prototxt_text, phase=TEST, **kwargs)``: a Net from a file of that text."""
    numbers = itertools.count()

    def make(text, phase=caffe.TEST, **kwargs):
        path = tmp_path / f"net{next(numbers)}.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase, **kwargs)

    return make


@pytest.fixture
def make_solver(tmp_path):
    """``make_solver(net_text, solver_text, cls)``: a solver whose train net is ``net_text``."""
    numbers = itertools.count()

    def make(net_text, solver_text="", cls=None):
        number = next(numbers)
        net = tmp_path / f"train{number}.prototxt"
        net.write_text(net_text)
        path = tmp_path / f"solver{number}.prototxt"
        path.write_text(f'train_net: "{net}"\nsnapshot_prefix: "{tmp_path}/s{number}"\n' + solver_text)
        return cls(str(path)) if cls else caffe.get_solver(str(path))

    return make


@pytest.fixture
def lines(caplog, monkeypatch):
    """A function that gives the log lines so far."""
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, "caffe")
    return lambda: [record.getMessage() for record in caplog.records]

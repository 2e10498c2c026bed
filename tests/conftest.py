"""For every test: a quiet engine (before it is imported), one seed, the CPU."""

import os

os.environ["GLOG_minloglevel"] = "2"

import caffe
import pytest


@pytest.fixture(autouse=True)
def _fresh_engine_state():
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)

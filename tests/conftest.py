"""For every test: a quiet engine (before it is imported), one seed, the CPU; and which engine it is."""

import os

os.environ["GLOG_minloglevel"] = "2"

import caffe
import pytest

EMBEDDED = hasattr(caffe, "CaffeError")  # the original has no exceptions of its own

# modules that cannot be imported without the embedded one
collect_ignore = [] if EMBEDDED else ["test_reproduce.py", "test_reproduction_speed.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_embedded(reason): what the original engine cannot do")


def pytest_report_header():
    return f"engine: {'embedded' if EMBEDDED else 'original'}, {os.path.dirname(caffe.__file__)}"


@pytest.fixture(autouse=True)
def _needed_engine(request):
    mark = request.node.get_closest_marker("needs_embedded")
    if mark and not EMBEDDED:
        pytest.skip(f"not on the original engine: {mark.args[0]}")


@pytest.fixture(autouse=True)
def _fresh_engine_state():
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)

"""NCCL: the name under which Caffe's scripts sum gradients over several processes with a GPU each.

This engine is, in pycaffe's words, built without it: ``has_nccl()`` is False, ``NCCL.new_uid`` and
``bcast`` do not exist, and an object of the class does nothing.
"""

from __future__ import annotations

from . import common
from .errors import CaffeError


def has_nccl() -> bool:
    """Can several processes train one net together? Not in this engine: False."""
    return False


class NCCL:
    """What a solver's gradients are summed by: alone, so there is nothing to do.

    ``solver`` is the solver, ``uid`` the bytes that name the group of processes. May be given to
    ``Solver.add_callback`` and ``Net.after_backward``. Raises CaffeError when several solvers are
    to train together (``caffe.set_solver_count``), which would silently train each by itself.
    """

    def __init__(self, solver, uid):
        if common.solver_count() > 1:
            raise CaffeError(
                f"Multi-GPU execution not available: solver_count is {common.solver_count()} and this engine "
                "has no NCCL (caffe.has_nccl() is False). Train with one solver; iter_size makes larger batches."
            )
        self.solver, self.uid = solver, uid

    def __call__(self, layer_index: int | None = None) -> None:
        """The hook itself: the gradients of one solver are their own sum, whatever ``layer_index`` ran."""

"""What a solver and ``caffe test`` say of a net's outputs and parameters, in Caffe's words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .net import Net


def output_lines(net: Net, values: dict[str, np.ndarray]) -> Iterator[str]:
    """A line for each number in ``values`` (output of ``net`` → flat array): ``name = value``.

    A blob with a loss weight w adds what it contributes, `` (* w = w·value loss)``.
    """
    weights = net.blob_loss_weights
    for name, array in values.items():
        weight = weights[name]
        for value in array.tolist():
            note = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            yield f"{name} = {value:.6g}{note}"


def norms_line(net: Net) -> str:
    """The L1 and L2 norms over all learnable parameters of ``net``, of values and of gradients."""
    blobs = [entry.blob for entry in net._param_table.learnable]
    norms = []
    for arrays in ([blob.data for blob in blobs], [blob.diff for blob in blobs]):
        flat = [array.astype(np.float64).reshape(-1) for array in arrays]
        norms.append((sum(np.abs(x).sum() for x in flat), np.sqrt(sum(np.dot(x, x) for x in flat))))
    (l1_data, l2_data), (l1_diff, l2_diff) = norms
    return (
        "    [Backward] All net params (data, diff): "
        f"L1 norm = ({l1_data:.6g}, {l1_diff:.6g}); L2 norm = ({l2_data:.6g}, {l2_diff:.6g})"
    )

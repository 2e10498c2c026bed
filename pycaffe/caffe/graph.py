"""From a net's prototxt to the list of layers that will run: filtering by state, and splits."""

from __future__ import annotations

from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2


def filter_net(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy of ``net`` with only the layers whose include/exclude rules allow ``net.state``."""
    kept = caffe_pb2.NetParameter()
    kept.CopyFrom(net)
    kept.ClearField("layer")
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise CaffeError(
                f"layer '{layer.name}': Specify either include rules or exclude rules; not both."
            )
        if layer.include:
            keep = any(_meets(net.state, rule, layer.name) for rule in layer.include)
        else:
            keep = not any(_meets(net.state, rule, layer.name) for rule in layer.exclude)
        if keep:
            kept.layer.add().CopyFrom(layer)
    return kept


def _meets(state, rule, name: str) -> bool:
    """Does ``state`` satisfy every condition that ``rule`` sets?"""
    reason = None
    if rule.HasField("phase") and rule.phase != state.phase:
        reason = f"phase ({state.phase}) differed from the phase ({rule.phase})"
    elif rule.HasField("min_level") and state.level < rule.min_level:
        reason = f"level ({state.level}) is below the min_level ({rule.min_level})"
    elif rule.HasField("max_level") and state.level > rule.max_level:
        reason = f"level ({state.level}) is above the max_level ({rule.max_level})"
    elif missing := [stage for stage in rule.stage if stage not in state.stage]:
        reason = f"did not contain stage '{missing[0]}'"
    elif forbidden := [stage for stage in rule.not_stage if stage in state.stage]:
        reason = f"contained a not_stage '{forbidden[0]}'"
    if reason:
        logger.info("The NetState %s specified by a rule in layer %s", reason, name)
    return reason is None


def insert_splits(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy of ``net`` where every top that several layers read goes through a Split layer.

    A top counts a loss weight of its own as one reader. The split is named
    ``<blob>_<producer>_<top index>_split``, its tops ``..._split_<k>`` in reading order.
    """
    producer: dict[str, tuple[int, int]] = {}  # blob name → last layer and top index that wrote it
    readers: dict[tuple[int, int], int] = {}
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) → (layer, top) it reads
    for i, layer in enumerate(net.layer):
        for j, name in enumerate(layer.bottom):
            if name not in producer:
                raise CaffeError(
                    f"Unknown bottom blob '{name}' (layer '{layer.name}', bottom index {j}). A bottom must be "
                    "the top of an earlier layer or a net input; check the spelling and the order of layers."
                )
            source[i, j] = producer[name]
            readers[producer[name]] = readers.get(producer[name], 0) + 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
        for j in range(min(len(layer.loss_weight), len(layer.top))):
            if layer.loss_weight[j] != 0:
                readers[i, j] = readers.get((i, j), 0) + 1

    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    result.ClearField("layer")
    used: dict[tuple[int, int], int] = {}
    for i, layer in enumerate(net.layer):
        new = result.layer.add()
        new.CopyFrom(layer)
        for j in range(len(layer.bottom)):
            key = source[i, j]
            if readers[key] > 1:
                k = used.get(key, 0)
                used[key] = k + 1
                new.bottom[j] = _split_name(net, key) + f"_{k}"
        for j, name in enumerate(layer.top):
            count = readers.get((i, j), 0)
            if count <= 1:
                continue
            split = result.layer.add()
            split.name = _split_name(net, (i, j))
            split.type = "Split"
            split.bottom.append(name)
            split.top.extend(f"{split.name}_{k}" for k in range(count))
            weight = layer.loss_weight[j] if j < len(layer.loss_weight) else 0
            if weight:
                split.loss_weight.extend([weight] + [0] * (count - 1))
                new.ClearField("loss_weight")
                used[i, j] = 1
    return result


def _split_name(net, key: tuple[int, int]) -> str:
    i, j = key
    return f"{net.layer[i].top[j]}_{net.layer[i].name}_{j}_split"

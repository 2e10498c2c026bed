"""What a layer is.

A layer reads *bottom* blobs, owns *parameter* blobs (``blobs``), and writes *top* blobs. A net
calls it in this order:

    layer.setup(bottom, top)        once: read the parameters, make ``blobs``
    layer.reshape(bottom, top)      once after setup, and before every forward: size the tops
    layer.forward(bottom, top)
    layer.backward(top, propagate_down, bottom)

Layers written in Python by users (type ``Python`` in a prototxt) implement these four on
:class:`Layer`. The layers of the engine derive from :class:`TensorLayer`, where a layer is a
pure function of tensors; autograd supplies the gradient.
"""

from __future__ import annotations

import torch

from . import common
from .errors import CaffeError
from .proto import caffe_pb2
from .vectors import BlobVec, LayerVec


class Layer:
    """Base of every layer, and of the Python layers that users write.

    Attributes: ``blobs`` (the parameters), ``type`` and ``name`` (of the prototxt), ``phase``
    (``caffe.TRAIN`` or ``caffe.TEST``), ``param_str`` (Python layers: the prototxt's string).
    ``phase`` and ``param_str`` are set after construction, before ``setup``.
    """

    # how many bottoms and tops it takes: None means any number
    exact_bottoms: int | None = None
    min_bottoms: int | None = None
    max_bottoms: int | None = None
    exact_tops: int | None = None
    min_tops: int | None = None
    max_tops: int | None = None
    equal_bottoms_tops = False
    auto_tops = False  # missing tops are made, unnamed (losses)
    is_loss = False  # the first top has loss weight 1 unless the prototxt says otherwise
    # may Net's force_backward ask for the gradient of bottom i?
    force_backward_refused: tuple[int, ...] = ()

    param_str = ""
    phase = caffe_pb2.TRAIN

    def __init__(self, layer_param):
        self.layer_param = layer_param
        self.name = layer_param.name
        self.type = layer_param.type
        self.blobs = BlobVec()

    def setup(self, bottom, top):
        """Read the parameters and make ``blobs``."""

    def reshape(self, bottom, top):
        """Give every top its shape."""

    def forward(self, bottom, top):
        """Fill the tops' data."""
        raise AttributeError(f"layer '{self.name}' ({type(self).__name__}) has no forward(self, bottom, top)")

    def backward(self, top, propagate_down, bottom):
        """Fill the diff of each bottom with ``propagate_down``, and add to the parameters' diffs."""
        raise AttributeError(
            f"layer '{self.name}' ({type(self).__name__}) has no backward(self, top, propagate_down, bottom)"
        )

    def _forget(self) -> None:
        """Drop what only another backward of the last forward would need."""


LayerVec.kind = Layer  # vectors.py cannot know it


def layer_error(layer: Layer, message: str) -> CaffeError:
    """The exception for a rule that ``layer`` breaks: ``message``, with the layer's name before it."""
    return CaffeError(f"layer '{layer.name}' ({layer.type}): {message}")


class TensorLayer(Layer):
    """A layer as a pure function of tensors.

    Subclasses implement three methods, in terms of shapes (tuples) and tensors (float32, or
    float64 in gradient checks; on any device):

        configure(shapes)             read ``layer_param``, append to ``blobs`` (shape and filler)
        top_shapes(shapes)            the tops' shapes for these bottom shapes
        compute(bottoms, params)      the tops, one tensor each, from the bottoms and ``blobs``

    Gradients come from autograd, one layer at a time, so every blob's diff is where Caffe puts
    it. ``no_gradient`` marks layers that Caffe cannot differentiate.
    """

    no_gradient = False
    gradient_refused: tuple[int, ...] = ()  # bottoms that have no gradient (labels)
    gradient_reads_tops = True  # False: a later layer may overwrite this one's tops in place
    can_overwrite = False  # has overwrite() and overwrite_diff()
    # nothing but its compute(); a class with a forward or backward of its own says so itself
    stateless = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if {"forward", "backward"} & set(vars(cls)) and "stateless" not in vars(cls):
            cls.stateless = False

    def __init__(self, layer_param):
        super().__init__(layer_param)
        self.in_place = False  # set by the net: overwrite the one bottom, which is the top
        self.needs_bottom: list[bool] = []  # set by the net: which gradients may be asked for
        self.needs_blob: list[bool] = []
        self._recorded = None

    def error(self, message: str) -> CaffeError:
        """The exception for a broken rule, naming the layer: ``raise self.error('...')``."""
        return layer_error(self, message)

    # -- what subclasses say --------------------------------------------------------------------

    def configure(self, shapes: list[tuple[int, ...]]) -> None:
        """Read ``layer_param``, check it, and make ``blobs``."""

    def top_shapes(self, shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The tops' shapes for these bottom shapes; raises ``self.error`` when they do not fit."""
        raise NotImplementedError

    def compute(self, bottoms: list[torch.Tensor], params: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tops' values."""
        raise NotImplementedError

    # The same for a top that is its bottom, without memory of its own; the net says when (``in_place``).

    def overwrite(self, x: torch.Tensor) -> None:
        """Change ``x`` to what :meth:`compute` makes of it."""
        raise NotImplementedError

    def overwrite_diff(self, y: torch.Tensor, diff: torch.Tensor) -> None:
        """Change ``diff``, the top's, to the bottom's; ``y`` is the top, later layers in place included."""
        raise NotImplementedError

    # -- Caffe's protocol in terms of it ----------------------------------------------------------

    def setup(self, bottom, top):
        self.configure([blob.shape for blob in bottom])

    def reshape(self, bottom, top):
        for blob, shape in zip(top, self.top_shapes([blob.shape for blob in bottom]), strict=True):
            blob.reshape(*shape)

    def forward(self, bottom, top):
        device = common.device()
        if self.in_place:
            with torch.no_grad():
                self.overwrite(top[0].tensor(device))
            top[0].modified()
            return
        self._recorded = None  # and with it the memory that it holds
        for blob in top:
            blob.release(but=bottom)
        record = any(self.needs_bottom) or any(self.needs_blob)
        with torch.set_grad_enabled(record):
            sources = []
            for i, blob in enumerate(bottom):
                source = blob.tensor(device).detach()
                if record and blob in top and blob.viewed():
                    source = source.clone()  # in place: writing the top would spoil what the gradient needs
                sources.append(source.requires_grad_(record and self.needs_bottom[i]))
            params = [
                blob.tensor(device).detach().requires_grad_(record and self.needs_blob[i])
                for i, blob in enumerate(self.blobs)
            ]
            results = self.compute(sources, params)
        self._recorded = (sources, params, results) if record else None
        taken = {source.untyped_storage().data_ptr() for source in sources + params}
        for blob, result in zip(top, results, strict=True):
            blob.write(unaliased(result.detach(), taken))

    def backward(self, top, propagate_down, bottom):
        refusal = self.backward_refusal(propagate_down)
        if refusal:
            raise self.error(refusal)
        if not any(propagate_down) and not any(self.needs_blob):
            return
        if self.in_place:
            with torch.no_grad():
                self.overwrite_diff(top[0].tensor(), top[0].diff_tensor())
            top[0].diff_modified()
            return
        if self._recorded is None:
            raise self.error(
                "backward needs a forward of this layer before it, with gradients wanted; "
                "call net.forward() first, and set force_backward: true in a net without a loss"
            )
        sources, params, results = self._recorded
        device = common.device()
        for blob, want in zip(bottom, propagate_down, strict=False):
            if want:
                blob.release_diff(but=top)
        wanted = [i for i, want in enumerate(propagate_down) if want and sources[i].requires_grad]
        learned = [i for i, param in enumerate(params) if param.requires_grad]
        inputs = [sources[i] for i in wanted] + [params[i] for i in learned]
        outputs, seeds = [], []
        for blob, result in zip(top, results, strict=True):
            if result.requires_grad:
                outputs.append(result)
                seeds.append(blob.diff_tensor(device))
        if not inputs or not outputs:
            grads = [None] * len(inputs)
        else:
            grads = torch.autograd.grad(outputs, inputs, seeds, retain_graph=True, allow_unused=True)
        taken = {seed.untyped_storage().data_ptr() for seed in seeds}
        for i, grad in zip(wanted, grads, strict=False):
            if grad is None:
                bottom[i].zero_diff()
            else:
                bottom[i].write_diff(unaliased(grad, taken))
        for i, grad in zip(learned, grads[len(wanted) :], strict=True):
            if grad is not None:
                self.blobs[i].add_diff(unaliased(grad, taken))

    def backward_refusal(self, propagate_down) -> str | None:
        """Why no gradient can be had for the bottoms with ``propagate_down``, or None."""
        if self.no_gradient:
            return "Not Implemented Yet: this layer has no gradient"
        if any(i < len(propagate_down) and propagate_down[i] for i in self.gradient_refused):
            return f"{self.type} Layer cannot backpropagate to label inputs."
        return None

    def _forget(self) -> None:
        self._recorded = None


def unaliased(values: torch.Tensor, taken: set[int]) -> torch.Tensor:
    """``values``, copied if its memory is larger than itself or among ``taken``, addresses that it then joins."""
    storage = values.untyped_storage()
    if storage.data_ptr() in taken or storage.nbytes() != values.numel() * values.element_size():
        values = values.clone(memory_format=torch.contiguous_format)
    taken.add(values.untyped_storage().data_ptr())
    return values

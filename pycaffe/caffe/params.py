"""The parameters of a net: which are shared, which learn, and with which multipliers."""

from __future__ import annotations

from dataclasses import dataclass

from .blob import Blob
from .layer import layer_error
from .proto import caffe_pb2

_DEFAULT = caffe_pb2.ParamSpec()


@dataclass
class Learnable:
    """A parameter blob as the solver sees it: one per owner, in order of first appearance."""

    blob: Blob
    name: str
    lr_mult: float | None = None  # None: not given by any sharer, so 1
    decay_mult: float | None = None


class ParamTable:
    """Collects the parameters of each layer while a net is built."""

    def __init__(self):
        self.learnable: list[Learnable] = []
        self.learns: list[list[bool]] = []  # per layer and blob: is its gradient computed?
        self._owners: dict[str, Learnable] = {}
        self._sharers: list[tuple[Blob, Blob]] = []

    def add(self, layer, specs) -> list[bool]:
        """Enter a layer's blobs under ``specs``, its ``param`` entries; returns which of them learn.

        Raises CaffeError when a shared parameter differs in shape (``share_mode: STRICT``), in
        count (``PERMISSIVE``), or in an explicit lr_mult or decay_mult.
        """
        learns = []
        for i, blob in enumerate(layer.blobs):
            spec = specs[i] if i < len(specs) else _DEFAULT
            learns.append(spec.lr_mult != 0)
            owner = self._owners.get(spec.name) if spec.name else None
            if owner is None:
                owner = Learnable(blob, spec.name or str(i))
                self.learnable.append(owner)
                if spec.name:
                    self._owners[spec.name] = owner
            else:
                self._check_shared(layer, spec, blob, owner.blob)
                self._sharers.append((blob, owner.blob))
            for mult in ("lr_mult", "decay_mult"):
                if not spec.HasField(mult):
                    continue
                value, known = getattr(spec, mult), getattr(owner, mult)
                if known is not None and known != value:
                    raise layer_error(
                        layer,
                        f"Shared param '{spec.name}' has mismatched {mult}: {value:g} here, {known:g} before.",
                    )
                setattr(owner, mult, value)
        self.learns.append(learns)
        return learns

    @staticmethod
    def _check_shared(layer, spec, blob: Blob, owner: Blob):
        what = None
        if spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE:
            if blob.count != owner.count:
                what = "count mismatch"
        elif blob.shape != owner.shape:
            what = "shape mismatch"
        if what:
            raise layer_error(
                layer,
                f"Cannot share param '{spec.name}': {what}. Owner layer's shape is {owner.shape_string()}; "
                f"sharing layer expects shape {blob.shape_string()}",
            )

    def share(self) -> None:
        """Let every sharer use its owner's memory, values and gradients."""
        for blob, owner in self._sharers:
            blob.share_data(owner)
            blob.share_diff(owner)

"""Recurrent layers: RNN, LSTM and its one step, LSTMUnit."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .. import common
from ..blob import Blob
from ..fillers import fill
from ..layer import TensorLayer
from ..log import logger
from ..registry import register
from .rules import add_blob, canonical_axis, dims

_NO_INDICATORS = "Cannot backpropagate to sequence indicators."


class Recurrent(TensorLayer):
    """A step repeated over T timesteps of N independent streams, which hands its hidden state on.

    Bottoms: x (T, N, ...); cont (T, N), 0 where a stream begins a new sequence and 1 where it
    goes on; if wanted x_static (N, ...), an input that every timestep sees; and with
    ``expose_hidden`` the hidden states before the first timestep, each (1, N, D). Tops: the outputs
    (T, N, D), D = ``num_output``; with ``expose_hidden`` also the hidden states after the last
    timestep, each (1, N, D).

    Without ``expose_hidden`` a forward starts from the hidden states that the last one ended with,
    at first zeros, and zeros again when N grows. Gradients go through the T timesteps, but neither
    into nor out of exposed hidden states. T is fixed at setup. ``debug_info`` logs the mean
    absolute value of what every timestep makes.
    """

    states: tuple[str, ...]  # the hidden states by name
    output: str  # the name of what a timestep puts out
    gates: int  # how many times D numbers go into a timestep

    gradient_reads_tops = False
    force_backward_refused = (1,)

    def __init__(self, layer_param):
        super().__init__(layer_param)
        self.param = layer_param.recurrent_param
        self.exposed = len(self.states) if self.param.expose_hidden else 0
        self.min_bottoms, self.max_bottoms = 2 + self.exposed, 3 + self.exposed
        self.exact_tops = 1 + self.exposed
        self.stateless = self.exposed > 0

    def step_blobs(self, size: int) -> list[tuple[int, ...]]:
        """Shapes of the blobs that :meth:`step` reads, for D = ``size``."""
        raise NotImplementedError

    def step(
        self, total: torch.Tensor, states: list[torch.Tensor], cont: torch.Tensor, params: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One timestep: its output (N, D), and the hidden states after it, each (N, D).

        ``total`` (N, gates D) is what the inputs contribute, ``states`` are the hidden states before,
        ``cont`` is (N, 1), and ``params`` are the blobs of :meth:`step_blobs`.
        """
        raise NotImplementedError

    def configure(self, shapes):
        self.steps = None
        self.size = self.param.num_output
        if self.size == 0:
            raise self.error("num_output must be positive; set recurrent_param { num_output: ... }")
        self.inputs = self._count_inputs(shapes)
        self.steps, streams = shapes[0][:2]
        logger.info(
            "Initializing recurrent layer: assuming input batch contains %d timesteps of %d independent streams.",
            self.steps,
            streams,
        )
        self.carried = [Blob() for _ in self.states]
        self._start: list[torch.Tensor] | None = None
        self._end: list[torch.Tensor] = []
        self._make_blobs()

    def _make_blobs(self):
        rows = self.gates * self.size
        x, *static = self.inputs
        for shape in [(rows, x), (rows,), *[(rows, count) for count in static], *self.step_blobs(self.size)]:
            add_blob(self, shape, self._filler(shape))
        # Caffe has a layer for each timestep, filled before it is made to share the first one's blobs: its
        # draws are drawn here too, so that what is filled after them under one seed is equal
        for _ in range(self.steps - 1):
            for shape in self.step_blobs(self.size):
                fill(Blob(*shape), self._filler(shape))

    def _filler(self, shape):
        return self.param.weight_filler if len(shape) > 1 else self.param.bias_filler

    def _count_inputs(self, shapes) -> list[int]:
        """How many numbers x, and x_static if there is one, have for a stream in a timestep."""
        x, cont = shapes[:2]
        if len(x) < 2:
            raise self.error(
                f"bottom[0] must have at least 2 axes -- (#timesteps, #streams, ...); it is {dims(x)}"
            )
        if len(cont) != 2:
            raise self.error(
                f"bottom[1] must have exactly 2 axes -- (#timesteps, #streams); it is {dims(cont)}"
            )
        if self.steps is not None and self.steps != x[0]:
            raise self.error(
                f"input number of timesteps changed: {self.steps} at setup, now {x[0]}. Only the number of streams "
                "may change; for other lengths, set cont to 0 where a sequence begins"
            )
        if x[0] == 0:
            raise self.error(f"a sequence has at least one timestep, bottom[0] is {dims(x)}")
        if cont != x[:2]:
            raise self.error(
                f"bottom[1] has a number for each timestep and stream, {dims(x[:2])}; it is {dims(cont)}"
            )
        counts = [math.prod(x[canonical_axis(self, 2, x) :])]
        for static in shapes[2 : len(shapes) - self.exposed]:
            if static[:1] != x[1:2]:
                raise self.error(
                    f"bottom[2], the static input, has an item for each of {x[1]} streams; it is {dims(static)}"
                )
            counts.append(math.prod(static[canonical_axis(self, 1, static) :]))
        return counts

    def top_shapes(self, shapes):
        found = self._count_inputs(shapes)
        if found != self.inputs:
            raise self.error(
                "Input size incompatible with inner product parameters. A stream in a timestep has "
                f"{' and '.join(map(str, found))} numbers, the weights take {' and '.join(map(str, self.inputs))}"
            )
        streams = shapes[0][1]
        state = (1, streams, self.size)
        for i in range(len(shapes) - self.exposed, len(shapes)):
            if shapes[i] != state:
                raise self.error(
                    f"bottom[{i}] shape must match hidden state input shape: {dims(state)}; it is {dims(shapes[i])}"
                )
        return [(self.steps, streams, self.size), *[state] * self.exposed]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        for blob in self.carried:
            blob.reshape(*top[0].shape[1:])

    def forward(self, bottom, top):
        if self.exposed:
            super().forward(bottom, top)
            return
        device = common.device()
        self._start = [blob.tensor(device).clone() for blob in self.carried]
        super().forward(bottom, top)
        for blob, state in zip(self.carried, self._end, strict=True):
            blob.tensor(device).copy_(state)
            blob.modified()

    def backward_refusal(self, propagate_down):
        return _NO_INDICATORS if propagate_down[1] else super().backward_refusal(propagate_down)

    def compute(self, bottoms, params):
        (x, cont), hidden = bottoms[:2], bottoms[len(bottoms) - self.exposed :]
        total = F.linear(x.flatten(2), *params[:2])
        if len(self.inputs) > 1:
            total = total + F.linear(bottoms[2].flatten(1), params[2])
        if self.exposed:
            states = [state.detach()[0] for state in hidden]
        elif self._start is not None:
            states = [state.to(x) for state in self._start]
        else:
            states = [x.new_zeros(x.shape[1], self.size) for _ in self.states]
        outputs = []
        for each, going_on in zip(total.unbind(), cont.unsqueeze(2).unbind(), strict=True):
            output, states = self.step(each, states, going_on, params[1 + len(self.inputs) :])
            outputs.append(output)
            if self.param.debug_info:
                self._log(len(outputs), output, states)
        self._end = [state.detach().clone() for state in states]
        return [torch.stack(outputs), *[state.unsqueeze(0) for state in self._end[: self.exposed]]]

    def _log(self, step, output, states):
        for name, values in {**dict(zip(self.states, states, strict=True)), self.output: output}.items():
            mean = values.detach().abs().mean().item()
            logger.info("    [Forward] Layer %s, top blob %s_%d data: %g", self.name, name, step, mean)


@register("RNN")
class RNN(Recurrent):
    """h = tanh(W_hh (cont h) + W_xh x + b_h), output o = tanh(W_ho h + b_o); see :class:`Recurrent`.

    Blobs: W_xh (D, K), K the values of x from axis 2 on; b_h (D); with a static input W_xh_static
    (D, S), S its values from axis 1 on; W_hh (D, D); W_ho (D, D); b_o (D). The hidden state is h.
    """

    states = ("h",)
    output = "o"
    gates = 1

    def step_blobs(self, size):
        return [(size, size), (size, size), (size,)]

    def step(self, total, states, cont, params):
        hidden = torch.tanh(F.linear(states[0] * cont, params[0]) + total)
        return torch.tanh(F.linear(hidden, params[1], params[2])), [hidden]


@register("LSTM")
class LSTM(Recurrent):
    """Long short-term memory: :func:`lstm_unit` of W_xc x + b_c + W_hc (cont h); see :class:`Recurrent`.

    Blobs: W_xc (4 D, K), K the values of x from axis 2 on; b_c (4 D); with a static input
    W_xc_static (4 D, S), S its values from axis 1 on; W_hc (4 D, D). The output is h, the hidden
    states are h and c.
    """

    states = ("h", "c")
    output = "h"
    gates = 4

    def step_blobs(self, size):
        return [(4 * size, size)]

    def step(self, total, states, cont, params):
        hidden, cell = states
        cell, hidden = lstm_unit(cell, F.linear(hidden * cont, params[0]) + total, cont)
        return hidden, [hidden, cell]


def lstm_unit(
    cell: torch.Tensor, gates: torch.Tensor, cont: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One LSTM step: c = cont s(f) c' + s(i) tanh(g) and h = s(o) tanh(c), s the sigmoid.

    ``cell`` is c' (..., N, D), ``gates`` (..., N, 4 D) are i, f, o and g in this order, ``cont`` is
    (..., N, 1). Returns c and h, each (..., N, D).
    """
    size = cell.shape[-1]
    i, f, o = gates[..., : 3 * size].sigmoid().split(size, -1)
    cell = cont * f * cell + i * gates[..., 3 * size :].tanh()
    return cell, o * cell.tanh()


@register("LSTMUnit")
class LSTMUnit(TensorLayer):
    """One step of an LSTM, see :func:`lstm_unit`.

    Bottoms: the cell before (1, N, D), the gates' inputs (1, N, 4 D) in the order i, f, o, g, and
    cont (1, N), 0 where the cell before counts as 0, else 1. Tops: the cell and the hidden state,
    each (1, N, D). With a cont between 0 and 1 the gradient is the exact one, as on Caffe's GPU;
    Caffe's CPU takes cont s(f) (1 - cont s(f)) for the slope of cont s(f).
    """

    exact_bottoms = 3
    exact_tops = 2
    gradient_reads_tops = False
    force_backward_refused = (2,)

    def top_shapes(self, shapes):
        cell, gates, cont = shapes
        if len(cell) != 3 or cell[0] != 1 or gates != (1, cell[1], 4 * cell[2]) or cont != cell[:2]:
            raise self.error(
                "bottoms are the cell (1, N, D), the gates' inputs (1, N, 4 D) and cont (1, N); "
                f"they are {dims(cell)}, {dims(gates)} and {dims(cont)}"
            )
        return [cell, cell]

    def backward_refusal(self, propagate_down):
        return _NO_INDICATORS if propagate_down[2] else super().backward_refusal(propagate_down)

    def compute(self, bottoms, params):
        cell, gates, cont = bottoms
        return list(lstm_unit(cell, gates, cont.unsqueeze(2)))

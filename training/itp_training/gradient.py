"""Q-values of a batch and the gradient of its loss, by explicit products or by autograd."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itp._core.decider import STATE_DIM
from itp._core.dense import product
from itp.actions import N_ACTIONS
from itp_training.network import QNetwork

Floats: TypeAlias = NDArray[np.float32]


class DenseChain:
    """Values and gradient of a plain network on the CPU, layer by layer, without PyTorch.

    The same numbers as autograd's up to rounding, in a fraction of the time: at such sizes most of autograd's
    goes into bookkeeping. Weights and gradients are the network's own memory. Whatever a call returns is
    overwritten by the next one.

    Parameters
    ----------
    weights, gradient : Tensor
        What `QNetwork.flatten` gave of a plain network on the CPU.
    hidden : sequence of int
        Its hidden layers' widths.
    batch_size : int
        States a call.
    """

    def __init__(self, weights: Tensor, gradient: Tensor, hidden: Sequence[int], batch_size: int) -> None:
        self._weights = _layers(weights, hidden)
        self._gradients = _layers(gradient, hidden)
        # What enters each layer: the outputs of the one before, and a 1 for the bias.
        self._inputs = [np.ones((batch_size, len(layer)), np.float32) for layer in self._weights]
        self._outputs = [entering[:, :-1] for entering in self._inputs[1:]]
        self._outputs.append(np.empty((batch_size, N_ACTIONS), np.float32))
        # The loss's gradient by what leaves each layer but the last.
        self._errors = [np.empty_like(leaving) for leaving in self._outputs[:-1]]

    def forward(self, states: Floats) -> Floats:
        """Q-values of a batch; what `backward` needs of it is kept."""
        np.subtract(2.0 * states, 1.0, out=self._inputs[0][:, :-1])
        last = len(self._weights) - 1
        for k, (entering, weights, leaving) in enumerate(
            zip(self._inputs, self._weights, self._outputs, strict=True)
        ):
            product(entering, weights, leaving, relu=k < last)
        return self._outputs[-1]

    evaluate = forward
    """The same: a plain network has no mode of its own for training."""

    def backward(self, slope: Floats) -> None:
        """Set the parameters' gradients, from the loss's gradient by the values that `forward` returned."""
        error = slope
        for k in range(len(self._weights) - 1, -1, -1):
            product(self._inputs[k].T, error, self._gradients[k])
            if k:
                # Where ReLU has cut an output off, the loss does not depend on it.
                weights, before = self._weights[k][:-1], self._errors[k - 1]
                product(error, weights.T, before, gate=self._outputs[k - 1])
                error = before


class Autograd:
    """The same of any network on any device, by PyTorch."""

    def __init__(self, network: QNetwork, gradient: Tensor) -> None:
        self._network = network
        self._gradient = gradient
        self._kept = torch.empty(0)

    def forward(self, states: Floats) -> Floats:
        """Q-values of a batch, in training mode; what `backward` needs of it is kept."""
        self._kept = self._network.train()(torch.from_numpy(states).to(self._gradient.device))
        return self._kept.detach().cpu().numpy()

    @torch.inference_mode()
    def evaluate(self, states: Floats) -> Floats:
        """Q-values of a batch, in evaluation mode."""
        values: Tensor = self._network.eval()(torch.from_numpy(states).to(self._gradient.device))
        return values.cpu().numpy()

    def backward(self, slope: Floats) -> None:
        """Set the parameters' gradients, from the loss's gradient by the values that `forward` returned."""
        self._gradient.zero_()
        torch.autograd.backward(self._kept, torch.from_numpy(slope).to(self._gradient.device))


def differentiable(network: QNetwork, batch_size: int) -> tuple[DenseChain | Autograd, Tensor, Tensor]:
    """Flatten a network; the fastest way to its values and gradient, and the two vectors."""
    weights, gradient = network.flatten()
    if network.is_plain and weights.device.type == "cpu":
        return DenseChain(weights, gradient, network.hidden, batch_size), weights, gradient
    return Autograd(network, gradient), weights, gradient


def _layers(flat: Tensor, hidden: Sequence[int]) -> list[Floats]:
    """The layers' parts of a flat vector, float32[inputs + 1, outputs] each; the biases are the last row."""
    widths = (STATE_DIM, *hidden, N_ACTIONS)
    shapes = [(n_in + 1, n_out) for n_in, n_out in pairwise(widths)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    parts = np.split(flat.numpy(), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

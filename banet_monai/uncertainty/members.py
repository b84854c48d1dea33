"""Several weight files for one architecture: read and compared before anything runs."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from banet_monai.networks.weights import read_state
from banet_monai.uncertainty.dropout import unwrapped

__all__ = ["Members", "member_files"]

COUNTER = "num_batches_tracked"  # of batch norm; old files have none, and it changes no prediction
NAMED_AT_MOST = 3  # entries that do not fit

State = dict[str, torch.Tensor]


def member_files(files: str | Sequence[str | Path] | None) -> tuple[Path, ...]:
    """Weight files as a list, or as text with commas between them, which is what a command line gives; each once.

    Raises:
        ValueError: when a file is named twice.
    """
    parts = files.split(",") if isinstance(files, str) else files or ()
    paths = [Path(str(part).strip()) for part in parts if str(part).strip()]
    if twice := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise ValueError(f"an ensemble needs different weights, {twice} is named twice.")
    return tuple(paths)


class Members:
    """The further members of an ensemble, whose first member is the network with the weights that it has.

    All files are read at once, tensors only, and compared with each other, so that a wrong one stops a run before it
    begins. They stay in memory: an ensemble needs that much for each of its members.

    Args:
        files: weights of the further members, as :func:`banet_monai.networks.weights.read_state` takes them.
        checkpoint: weights of the first member, to compare the others with. None: when a network comes its form alone
            is compared, so that a file that repeats its weights adds a member that agrees with it everywhere.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a file is damaged, could run code, belongs to another architecture, or repeats the weights of
            another one.
    """

    def __init__(self, files: Sequence[Path], *, checkpoint: str | Path | None = None) -> None:
        self.files = tuple(files)
        self._states = [dict(read_state(file)) for file in self.files]
        self._copies: list[nn.Module] = []
        self._origin: weakref.ref[nn.Module] | None = None
        self._device: torch.device | None = None
        named = [(str(file), state) for file, state in zip(self.files, self._states, strict=True)]
        if checkpoint is not None:
            named.insert(0, (str(checkpoint), dict(read_state(checkpoint))))
        for position, (name, state) in enumerate(named):
            for other_name, other in named[:position]:
                _require_same_form(name, state, other_name, other)
                if all(torch.equal(value, other[key]) for key, value in state.items() if key in other):
                    raise ValueError(f"an ensemble needs different weights, '{name}' holds those of '{other_name}'.")

    def __len__(self) -> int:
        return len(self.files)

    def networks(self, network: nn.Module) -> list[nn.Module]:
        """One network per member, the given one first. The others are its copies, kept until another one is given.

        They are copies of what is inside ``torch.compile`` and data-parallel wrappers.

        Raises:
            TypeError: when the network is no module.
            ValueError: when a file does not fit it.
        """
        if not isinstance(network, nn.Module):
            raise TypeError(f"an ensemble needs a torch.nn.Module, got {type(network).__name__}.")
        inner = unwrapped(network)
        device = next((parameter.device for parameter in inner.parameters()), None)
        if self._origin is None or self._origin() is not inner or self._device != device:
            own = inner.state_dict()
            for file, state in zip(self.files, self._states, strict=True):
                _require_same_form(str(file), state, type(inner).__name__, own)
            self._copies = [_with_weights(inner, state) for state in self._states]
            self._origin, self._device = weakref.ref(inner), device
        for copied in self._copies:
            copied.train(network.training)
        return [network, *self._copies]


def _with_weights(network: nn.Module, state: State) -> nn.Module:
    with torch.inference_mode(False), torch.no_grad():
        copied = copy.deepcopy(network)
        counters = {key: value for key, value in copied.state_dict().items() if key.endswith(COUNTER)}
        copied.load_state_dict(counters | state)
    return copied


def _require_same_form(name: str, state: State, other_name: str, other: State) -> None:
    one, two = ({k: tuple(v.shape) for k, v in s.items() if not k.endswith(COUNTER)} for s in (state, other))
    if different := sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)):
        shown = ", ".join(different[:NAMED_AT_MOST]) + (", …" if len(different) > NAMED_AT_MOST else "")
        raise ValueError(
            f"the members of an ensemble share one architecture: '{name}' and '{other_name}' differ in "
            f"{len(different)} entries ({shown}). Weights of the same network_def, trained with other seeds, would do."
        )

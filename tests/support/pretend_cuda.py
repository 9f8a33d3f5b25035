"""Tensors that say they are on `cuda:0` and compute on the CPU, to try code for a GPU without having one.

Within `pretended_cuda()`, what a GPU would refuse raises (tensors on different devices in one operation, `numpy()`, a
backward pass through a recurrent layer of cuDNN in eval mode), and where the program would wait for the GPU is counted,
with the line of this package that made it wait. Speed and rounding are those of the CPU, and autocast does not apply.

What is taken from torch's documentation: an operation whose result the CPU must know waits ("CUDA semantics,
Asynchronous execution"), and so does a copy from memory that is not pinned, or without `non_blocking`.
"""

import contextlib
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
_PACKAGE = "coqui_scl_plugin/"

_WAITING = {
    f"aten::{name}"
    for name in (
        "_local_scalar_dense", "equal", "nonzero", "nonzero_numpy", "masked_select", "_unique2", "unique_consecutive",
        "unique_dim", "bincount", "repeat_interleave", "is_nonzero",
    )
}  # fmt: skip
"""Operations whose result, or the size of whose result, the CPU must know."""
_ANY_ORDER = {"aten::index_add", "aten::index_add_", "aten::scatter_add", "aten::scatter_add_"}
"""Operations that add in an order which differs from run to run, and so round differently."""
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}


@dataclass
class Ledger:
    """What was counted, by what happened and where: a line of the package, or of the code that it calls."""

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Times that the program waited for the GPU."""
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Copies to the GPU for which nothing waits."""
    any_order: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Operations that add in any order, so that a run cannot be repeated bit by bit."""
    recurrent: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Recurrent layers run: `cudnn` or `native`, and whether they were in train mode."""

    def clear(self) -> None:
        """Count anew."""
        for counter in (self.waits, self.copies, self.any_order, self.recurrent):
            counter.clear()

    def own(self, kind: str = "waits") -> dict[tuple[str, str], int]:
        """Return the counts of `kind` at lines of the package."""
        return {key: count for key, count in getattr(self, kind).items() if _PACKAGE in key[1]}


_ledger = Ledger()
_pinned: "weakref.WeakValueDictionary[int, Tensor]" = weakref.WeakValueDictionary()


def _where() -> str:
    """Return the innermost line of the package on the stack, or the innermost one outside torch."""
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in reversed(traceback.extract_stack())
        if not frame.filename.endswith("pretend_cuda.py") and "/torch/" not in frame.filename
    ]
    own = next((line for line in frames if _PACKAGE in line), None)
    return (own or (frames[0] if frames else "backward")).split("site-packages/")[-1]


class OnCuda(Tensor):
    """A tensor that says it is on `cuda:0`; `held` is the tensor on the CPU that it computes with."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        """Wrap a tensor. For torch's own code it is on the device `meta`, which needs no hardware."""
        wrapper: Self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device="meta", requires_grad=False,
        )  # fmt: skip
        wrapper.held = held.detach()
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        return _run(func, args, kwargs or {})

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = is_meta = property(lambda self: False)  # type: ignore[assignment]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCuda({list(self.shape)}, {self.dtype})"

    def get_device(self) -> int:
        return 0

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        _ledger.waits["tolist", _where()] += 1
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_lists_as_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_lists_as_tensors(index), value)

    def __deepcopy__(self, memo: Any) -> Tensor:
        copied = OnCuda(self.held.clone())
        return nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)


def _lists_as_tensors(index: Any) -> Any:
    """Return an index without lists, which torch would copy to the device itself, unseen from here."""
    if isinstance(index, tuple):
        return tuple(map(_lists_as_tensors, index))
    return _make_tensor(index) if isinstance(index, list) else index


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _unwrapped(value: Any) -> Any:
    if isinstance(value, OnCuda):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) and _is_cuda(value) else value


def _wrapped(value: Any) -> Any:
    return OnCuda(value) if isinstance(value, Tensor) and not isinstance(value, OnCuda) else value


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Refuse and count what a GPU would, run the operation on the CPU, and wrap its results."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_cuda = [tensor for tensor in tensors if isinstance(tensor, OnCuda)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, OnCuda)]
    name, device = func._schema.name, kwargs.get("device")
    _judge(name, args, kwargs, on_cuda, on_cpu)
    plain_args, plain = tree_map(_unwrapped, args), dict(tree_map(_unwrapped, kwargs))
    if _is_cuda(device):
        plain["device"] = "cpu"
    plain.pop("pin_memory", None)
    out = func(*plain_args, **plain)
    if name == "aten::copy_":
        return args[0]
    if on_cuda and torch.Tag.inplace_view in func.tags:
        with no_dispatch():
            func(*args, **kwargs)
        return args[0]
    written = _written(func, args)
    if len(written) == 1 and isinstance(written[0], OnCuda) and len(func._schema.returns) == 1:
        return written[0]
    stays = bool(on_cuda) if device is None else _is_cuda(device)
    return tree_map(_wrapped, out) if stays else out


def _written(func: Any, args: Sequence[Any]) -> list[Any]:
    """Return the arguments that an operation writes to and returns."""
    aliases = zip(args, func._schema.arguments, strict=False)
    return [value for value, info in aliases if info.alias_info is not None and info.alias_info.is_write]


def _judge(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], on_cuda: Sequence[OnCuda], on_cpu: Sequence[Tensor]
) -> None:
    """Raise what a GPU would raise, and count where it would wait or copy."""
    if on_cuda and name in _ANY_ORDER:
        _ledger.any_order[name, _where()] += 1
    if name == "aten::_to_copy":
        device = kwargs.get("device")
        goes = bool(on_cuda) if device is None else _is_cuda(device)
        _count_copy([*on_cuda, *on_cpu][0], to_cuda=goes, non_blocking=kwargs.get("non_blocking", False))
    elif name == "aten::copy_":
        _count_copy(args[1], to_cuda=isinstance(args[0], OnCuda), non_blocking=len(args) > 2 and args[2])
    elif name in _INDEXING:
        _judge_indices(name, args)
    elif on_cuda and name in _WAITING:
        _ledger.waits[name, _where()] += 1
    elif on_cuda and any(tensor.dim() > 0 for tensor in on_cpu):
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} at {_where()}")


def _judge_indices(name: str, args: Sequence[Any]) -> None:
    indices = [index for index in args[1] or [] if isinstance(index, Tensor)]
    if not isinstance(args[0], OnCuda):
        if any(isinstance(index, OnCuda) for index in indices):
            raise RuntimeError(f"indices on cuda, the tensor on the cpu: {name} at {_where()}")
        return
    for index in indices:
        if index.dtype in (torch.bool, torch.uint8):
            _ledger.waits["mask as an index", _where()] += 1
        elif not isinstance(index, OnCuda):
            _count_upload(index, non_blocking=True)


def _count_copy(tensor: Tensor, *, to_cuda: bool, non_blocking: bool) -> None:
    if isinstance(tensor, OnCuda) and not to_cuda:
        _ledger.waits["copy to the CPU", _where()] += 1
    elif to_cuda and not isinstance(tensor, OnCuda):
        _count_upload(tensor, non_blocking=non_blocking)


def _count_upload(tensor: Tensor, *, non_blocking: bool) -> None:
    if non_blocking and _pinned.get(id(tensor)) is tensor:
        _ledger.copies["pinned copy to the GPU", _where()] += 1
    else:
        _ledger.waits["copy to the GPU from memory that is not pinned", _where()] += 1


class _Mode(TorchDispatchMode):
    """Catches operations without a tensor of ours, such as `torch.zeros(3, device="cuda")`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_make_tensor, _as_plain_tensor = torch.tensor, torch.as_tensor
_recurrent = {name: getattr(torch._VF, name) for name in ("lstm", "gru")}


def _tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any) -> Tensor:
    """`torch.tensor`, which makes its tensor on the CPU and copies it."""
    made = _make_tensor(data, dtype=dtype)
    made = made.to(device) if device is not None else made
    return made.requires_grad_() if requires_grad else made


def _as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    if isinstance(data, OnCuda):
        return data.to(device or CUDA, dtype)
    return _as_plain_tensor(data, dtype=dtype).to(device or "cpu")


def _enter_inference(self: Any) -> None:
    """Enter `no_grad` in place of inference mode, in which tensors cannot be wrapped."""
    self._without = torch.no_grad() if self.mode else contextlib.nullcontext()
    self._without.__enter__()


def _leave_inference(self: Any, *error: Any) -> None:
    self._without.__exit__(*error)


def _pinned_copy(tensor: Tensor, device: Any = None) -> Tensor:
    if isinstance(tensor, OnCuda):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    copy = tensor.clone()
    _pinned[id(copy)] = copy
    return copy


def _layer(name: str) -> Any:
    """Return a recurrent layer that refuses what cuDNN refuses."""

    def run(*args: Any) -> Any:
        if isinstance(args[0], OnCuda):
            cudnn, training = torch._C._get_cudnn_enabled(), bool(args[6])
            needs = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (args[0], *args[2]))
            _ledger.recurrent["cudnn" if cudnn else "native", training] += 1
            if cudnn and needs and not training:
                raise RuntimeError("cudnn RNN backward can only be called in training mode")
        return _recurrent[name](*args)

    return run


@contextlib.contextmanager
def pretended_cuda() -> Iterator[Ledger]:
    """Let `cuda:0` exist within the block, for tensors and for modules that `moved` took there; yield the counts."""
    _ledger.clear()
    with contextlib.ExitStack() as stack:
        patch = [
            mock.patch.object(torch, "tensor", _tensor),
            mock.patch.object(torch, "as_tensor", _as_tensor),
            mock.patch.object(torch.inference_mode, "__enter__", _enter_inference),
            mock.patch.object(torch.inference_mode, "__exit__", _leave_inference),
            mock.patch.object(Tensor, "pin_memory", _pinned_copy),
            mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
            mock.patch.object(torch.cuda, "is_initialized", return_value=True),
            mock.patch.object(torch.cuda, "current_device", return_value=0),
            *(mock.patch.dict(torch._VF.__dict__, {name: _layer(name)}) for name in _recurrent),
        ]
        for one in patch:
            stack.enter_context(one)
        stack.enter_context(_Mode())
        yield _ledger


def moved(module: nn.Module) -> nn.Module:
    """Take a module's parameters and buffers to the GPU, in place, as `.to("cuda")` would."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and not isinstance(parameter, OnCuda):
                part._parameters[name] = nn.Parameter(OnCuda(parameter.data), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and not isinstance(buffer, OnCuda):
                part._buffers[name] = OnCuda(buffer)
        if isinstance(part, nn.RNNBase):
            part._flat_weights = [getattr(part, name, None) for name in part._flat_weights_names]
    return module


def uploaded(value: Any) -> Any:
    """Take the tensors in a batch to the GPU, which is not counted."""
    return tree_map(_wrapped, value)

"""A pass through a frozen encoder that computes and keeps only what the gradient at the waveform needs.

The encoder itself stays as it is: no module, weight or hook of it changes. For the length of a pass, calls of PyTorch's
functions by its layers are answered in another way:

- A convolution keeps its weights alone for the backward pass; PyTorch's own also keeps the input, which only the
  gradient of the weights would need.
- Images `[B, C, H, W]` lie in memory with their channels last, as convolutions are fastest.
- A batch normalisation that follows a convolution is computed along with it.
- In bfloat16, layers with weights compute in bfloat16, and whatever pools, normalises or exponentiates in float32.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

TRANSPOSED: Mapping[Any, Callable[..., Tensor]] = {
    torch.conv1d: functional.conv_transpose1d,
    torch.conv2d: functional.conv_transpose2d,
}
"""The convolutions that a lean pass answers, each with the one that computes its gradient."""
ASKS_FOR_SHAPE = frozenset({"__get__", "dim", "size"})
"""Names of functions that tell the shape of a tensor, if they return no tensor."""
_FITS_BFLOAT16 = ASKS_FOR_SHAPE | {
    "relu", "leaky_relu", "hardtanh", "dropout", "add", "__radd__", "mul", "__rmul__", "cat", "chunk", "split", "pad",
    "unsqueeze", "squeeze", "transpose", "permute", "view", "reshape", "flatten", "unflatten", "__getitem__",
}  # fmt: skip
"""Functions that lose nothing in bfloat16 but for the rounding of what they return."""


class UnexpectedFlowError(Exception):
    """A batch normalisation did not get what the convolution returned that it was computed with."""


class _Options(NamedTuple):
    """Options of a convolution, with a number for each dimension."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]


class _FrozenConvolution(torch.autograd.Function):
    """A convolution, then scaled and shifted by channel, whose backward pass gives the gradient at the input alone.

    For the backward pass, it keeps nothing but the weights, which the encoder holds anyway, and the scale.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        convolve: Callable[..., Tensor],
        options: _Options,
    ) -> Tensor:
        """Convolve `[B, C, ...]` in the precision of `x`."""
        ctx.save_for_backward(weight, scale)
        ctx.convolve, ctx.options, ctx.size, ctx.dtype = convolve, options, x.shape[2:], x.dtype
        ctx.scales_output = False
        if scale is not None and shift is not None and x.dtype == weight.dtype and weight.numel() > x.numel():
            ctx.scales_output = True
            output = _convolve(convolve, x, weight, None, options)
            return torch.addcmul(_along(shift, output, 1), output, _along(scale, output, 1), out=output)
        weight = weight if scale is None else weight * _along(scale, weight, 0)
        return _convolve(convolve, x, weight.to(x.dtype), None if shift is None else shift.to(x.dtype), options)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the gradient at the input: the transposed convolution, as long as the input was."""
        (weight, scale), (gradient,) = ctx.saved_tensors, gradients
        if ctx.scales_output:
            gradient = gradient * _along(scale, gradient, 1)
        elif scale is not None:
            weight = weight * _along(scale, weight, 0)
        weight = weight.to(ctx.dtype)
        if _is_pointwise(weight, ctx.options):
            at_input = torch.matmul(weight[..., 0].T, gradient)
        else:
            sizes = zip(ctx.size, gradient.shape[2:], weight.shape[2:], *ctx.options, strict=True)
            unseen = [size - 1 - (out - 1) * s + 2 * p - d * (kernel - 1) for size, out, kernel, s, p, d in sizes]
            stride, padding, dilation = ctx.options
            at_input = TRANSPOSED[ctx.convolve](gradient, weight, None, stride, padding, unseen, 1, dilation)
        return at_input, None, None, None, None, None


def _convolve(
    convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, options: _Options
) -> Tensor:
    if not _is_pointwise(weight, options):
        return convolve(x, weight, bias, *options)
    output = torch.matmul(weight[..., 0], x)
    return output if bias is None else output.add_(bias[:, None])


def _is_pointwise(weight: Tensor, options: _Options) -> bool:
    """Tell whether a convolution is a matrix product for each frame of `[B, C, frames]`, which is faster as such."""
    return weight.ndim == 3 and weight.shape[2] == 1 and (options.stride, options.padding) == ([1], [0])


def _along(values: Tensor, like: Tensor, dimension: int) -> Tensor:
    """Return `[C]` in the shape in which it is broadcast along a dimension of another tensor."""
    return values.view([-1 if at == dimension else 1 for at in range(like.ndim)])


class _Mean(torch.autograd.Function):
    """The mean of each channel, `[B, C, H, W]` to `[B, C, 1, 1]`; its gradient is not written out for each pixel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Take the mean."""
        ctx.size = x.shape
        return x.mean(dim=(2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient at the input."""
        return (gradients[0] / (ctx.size[2] * ctx.size[3])).expand(ctx.size)


class LeanPass(TorchFunctionMode):
    """One pass through an encoder, from entering to leaving the block."""

    def __init__(self, followers: Mapping[_ConvNd, _BatchNorm], *, in_bfloat16: bool = False) -> None:
        """Prepare the pass.

        Args:
            followers: The batch normalisation that follows a convolution, where it takes nothing else and nothing else
                takes what the convolution returns.
            in_bfloat16: Whether layers with weights compute in bfloat16.
        """
        super().__init__()
        self._followers = {
            id(convolution.weight): norm
            for convolution, norm in followers.items()
            if not (convolution._forward_hooks or norm._forward_pre_hooks or norm.training)
        }
        self._awaited: dict[int, Tensor] = {}
        """What a convolution returned, with its batch normalisation computed, by the id of that one's mean."""
        self._in_bfloat16 = in_bfloat16
        self.layers_in_bfloat16 = 0
        """Number of layers that computed in bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a call."""
        kwargs = kwargs or {}
        if func in TRANSPOSED:
            return self._convolve(func, *args, **{"x" if k == "input" else k: v for k, v in kwargs.items()})
        if func is functional.batch_norm and len(args) > 1:
            return self._normalise(*args, **kwargs)
        if func is functional.adaptive_avg_pool2d and args[1:] in ((1,), ((1, 1),)) and args[0].ndim == 4:
            return _Mean.apply(args[0])
        if self._in_bfloat16:
            if func is functional.linear and len(args) > 1:
                return self._project(*args, **kwargs)
            if not _fits_bfloat16(getattr(func, "__name__", "")):
                args, kwargs = _in_float32(args), _in_float32(kwargs)
        return func(*args, **kwargs)

    def _convolve(
        self,
        convolve: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        trains = weight.requires_grad or (bias is not None and bias.requires_grad)
        if trains or groups > 1 or isinstance(padding, str) or x.ndim != weight.ndim:
            return convolve(_in_float32(x), weight, bias, stride, padding, dilation, groups)
        norm, scale = self._followers.get(id(weight)), None
        if norm is not None:
            scale, bias = _scale_and_shift(norm, bias)
        if weight.shape[1] > 1:  # what hears the waveform, or sees the spectrogram, does so in float32
            x = self._cast(x)
        if x.ndim == 4 and weight.shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        dimensions = x.ndim - 2
        by_dimension = [
            [one] * dimensions if isinstance(one, int) else [*one] * (dimensions if len(one) == 1 else 1)
            for one in (stride, padding, dilation)
        ]
        output: Tensor = _FrozenConvolution.apply(x, weight, scale, bias, convolve, _Options(*by_dimension))
        if norm is not None:
            self._awaited[id(norm.running_mean)] = output
        return output

    def _normalise(self, x: Tensor, running_mean: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        awaited = self._awaited.pop(id(running_mean), None)
        if awaited is None:
            return functional.batch_norm(x, running_mean, *args, **kwargs)
        if awaited is not x:
            raise UnexpectedFlowError
        return x

    def _project(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.requires_grad or weight.dtype != torch.float32:
            return functional.linear(_in_float32(x), weight, bias)
        return functional.linear(self._cast(x), weight.bfloat16(), None if bias is None else bias.bfloat16())

    def _cast(self, tensor: Tensor) -> Tensor:
        if not self._in_bfloat16:
            return tensor
        self.layers_in_bfloat16 += 1
        return tensor.bfloat16()


def _scale_and_shift(norm: Any, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what a batch normalisation multiplies with and what it then adds, `[C]` each, once `bias` was added."""
    mean, variance = norm.running_mean, norm.running_var
    scale: Tensor = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = ((0 if bias is None else bias) - mean) * scale
    return scale, shift + norm.bias if norm.affine else shift


def _fits_bfloat16(name: str) -> bool:
    """Tell whether a function takes bfloat16 as it comes; one that writes into its first argument must."""
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    return name in _FITS_BFLOAT16 or in_place


def _in_float32(value: Any) -> Any:
    """Return a value with the tensors in it that are bfloat16 in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, dict):
        return {key: _in_float32(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_in_float32, value))
    return value

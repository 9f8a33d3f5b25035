"""Whether and how an encoder can be passed leanly: found by watching it, and compared with a plain pass before use."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from coqui_scl_plugin.encoders.lean_pass import ASKS_FOR_SHAPE, TRANSPOSED, LeanPass
from coqui_scl_plugin.utils.buffers import buffers_put_back

MAX_CHANGE = 1e-4
"""Largest change of a value of an embedding, of unit length, in float32."""
MAX_CHANGE_IN_BFLOAT16 = 1e-3
"""Largest change of a cosine of two embeddings in bfloat16."""
_NOISES = 8
"""Number of noises whose cosines are compared: of CAM++ two change by 0.0006, eight by 0.009, real speech by 0.008."""
_MIN_GRADIENT_COSINE = 0.999
"""Of the gradients of both passes at the waveform, in float32."""


class LeanPlan(NamedTuple):
    """How an encoder is passed leanly."""

    followers: tuple[tuple[str, str], ...] = ()
    """Names of convolutions, each with that of the batch normalisation after it."""
    refusal: str | None = None
    """Why it is not passed leanly; None if it is."""

    def start(self, encoder: nn.Module, *, in_bfloat16: bool = False) -> LeanPass:
        """Return a pass through the encoder."""
        modules: Any = dict(encoder.named_modules())
        return LeanPass({modules[one]: modules[other] for one, other in self.followers}, in_bfloat16=in_bfloat16)


class _Watch(TorchFunctionMode):
    """Notes which functions take what a convolution returns."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        parts = list(encoder.named_modules())
        self._convolutions = {id(part.weight): name for name, part in parts if isinstance(part, _ConvNd)}
        self._norms = {id(part.running_mean): name for name, part in parts if _is_fixed_norm(part)}
        self._outputs: dict[int, tuple[str, Tensor]] = {}
        self._takers: dict[str, list[str | None]] = {}
        self._calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a call, and let it run."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        norm = self._norms.get(id(args[1])) if func is functional.batch_norm and len(args) > 1 else None
        if getattr(func, "__name__", "") not in ASKS_FOR_SHAPE or isinstance(output, Tensor):
            for tensor in _tensors((args, kwargs)):
                if id(tensor) in self._outputs:
                    self._takers[self._outputs[id(tensor)][0]].append(norm)
        if norm is not None:
            self._calls.append(norm)
        name = self._convolutions.get(id(args[1])) if func in TRANSPOSED and len(args) > 1 else None
        if name is not None:
            self._calls.append(name)
            self._outputs[id(output)] = name, output
            self._takers.setdefault(name, [])
        return output

    def followers(self) -> Iterator[tuple[str, str]]:
        """Yield each convolution, called once, whose output a batch normalisation takes, called once, and no other."""
        once = {name for name in self._calls if self._calls.count(name) == 1}
        for convolution, takers in self._takers.items():
            if len(takers) == 1 and takers[0] is not None and {convolution, takers[0]} <= once:
                yield convolution, takers[0]


def _is_fixed_norm(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is not None and not part.training


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def plan_lean_pass(encoder: nn.Module, min_samples: int) -> LeanPlan:
    """Watch a frozen encoder embed noise, and compare a lean pass with a plain one.

    Args:
        encoder: Any module from waveforms `[B, T]` to embeddings `[B, D]`, in eval mode.
        min_samples: Length of the noise.
    """
    if not any(isinstance(part, nn.Conv1d | nn.Conv2d) and part.groups == 1 for part in encoder.modules()):
        return LeanPlan(refusal="it has no convolutions")
    with _undisturbed(encoder):
        noise = _noise(encoder, min_samples, 2)
        try:
            with _Watch(encoder) as watch:
                plain = _embedding_and_gradient(encoder, noise)
            plan = LeanPlan(tuple(watch.followers()))
            with plan.start(encoder):
                lean = _embedding_and_gradient(encoder, noise)
        except Exception as error:  # noqa: BLE001  # of a third party's code, which may raise it in the plain pass too
            return LeanPlan(refusal=f"{type(error).__name__}: {error}")
    change = float((plain[0] - lean[0]).abs().max())
    cosine = float(functional.cosine_similarity(plain[1].flatten(), lean[1].flatten(), dim=0))
    if not (change <= MAX_CHANGE and cosine >= _MIN_GRADIENT_COSINE):  # nor if one is not finite
        return LeanPlan(refusal=f"its embeddings change by {change:.1e}, and the gradient to a cosine of {cosine:.4f}")
    return plan


def device_refusal_of_bfloat16() -> str | None:
    """Return why this machine cannot compute in bfloat16; None if its GPU can or, without one, its CPU."""
    if torch.cuda.is_available():
        return None if torch.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bfloat16"
    return None if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "this CPU has no AVX-512, without which it is slow"


def refusal_of_bfloat16(encoder: Any, plan: LeanPlan, min_samples: int) -> str | None:
    """Return why an encoder cannot compute in bfloat16; None if it can.

    Args:
        encoder: A frozen speaker encoder.
        plan: What `plan_lean_pass` returned for it.
        min_samples: Length of the noise to try it with, but for a second at least.
    """
    if plan.refusal is not None:
        return plan.refusal
    with _undisturbed(encoder):
        noise = _noise(encoder, max(min_samples, encoder.sample_rate), _NOISES)
        plain, _ = _embedding_and_gradient(encoder, noise)
        with plan.start(encoder, in_bfloat16=True) as lean_pass:
            lean, gradient = _embedding_and_gradient(encoder, noise)
    if not lean_pass.layers_in_bfloat16:
        return "none of its layers can"
    change = float((plain @ plain.T - lean @ lean.T).abs().max())
    if not (change <= MAX_CHANGE_IN_BFLOAT16 and gradient.isfinite().all()):
        return f"the cosine of two embeddings changes by {change:.1e}, more than {MAX_CHANGE_IN_BFLOAT16:g}"
    return None


def _noise(encoder: nn.Module, samples: int, rows: int) -> Tensor:
    """Return noise of several loudnesses, `[rows, samples]`, always the same one."""
    loudness = torch.linspace(0.1, 0.02, rows)[:, None]
    noise = torch.randn(rows, samples, generator=torch.Generator().manual_seed(0)) * loudness
    device = next((tensor.device for tensor in encoder.parameters()), noise.device)
    return noise.to(device)


def _embedding_and_gradient(encoder: nn.Module, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the embeddings of noise, and a gradient at it."""
    waveform = noise.clone().requires_grad_()
    embedding = encoder(waveform)
    towards = torch.linspace(-1, 1, embedding.shape[-1], device=embedding.device)
    (gradient,) = torch.autograd.grad((embedding * towards).sum(), [waveform])
    return embedding.detach(), gradient


@contextlib.contextmanager
def _undisturbed(encoder: nn.Module) -> Iterator[None]:
    """Within the block, compute with gradients; after it, random numbers and buffers are as before."""
    devices = {p.device.index for p in encoder.parameters() if p.is_cuda}
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=list(devices)),
        buffers_put_back([encoder]),
    ):
        yield

"""Whether a module is frozen, found out quickly."""

from torch import nn


def is_frozen(module: nn.Module) -> bool:
    """Tell whether all parts are in eval mode, and no weight requires a gradient or has one.

    It is asked several times a step, of encoders with hundreds of parts, so it builds no names as `modules` does.
    """
    parts = [module]
    for part in parts:
        if part.training or any(
            p is not None and (p.requires_grad or p.grad is not None) for p in part._parameters.values()
        ):
            return False
        parts.extend(child for child in part._modules.values() if child is not None)
    return True

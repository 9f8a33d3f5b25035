"""The arms of the ablation: what each run adds to training, as the `scl` section of a config."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arm:
    """What distinguishes a run from the others of its seed."""

    name: str
    section: dict[str, Any]
    """The `scl` section, without the weight where `strength` gives it."""
    group: str
    """Arms of one group are compared with each other."""
    question: str
    """What it answers beside the arms of its group."""
    strength: float | None = 1.0
    """Norm of the loss's gradient at the generator's weights, relative to `BASE` with YourTTS's weight of 9. None: the
    section has a weight of its own."""
    prior: bool = False
    """Whether the window is decoded from the prior; see `prior`."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that it trains against."""
        if not self.section.get("enabled", True):
            return ()
        return tuple(encoder["name"] for encoder in self.section["encoders"])


GE2E, CAMPPLUS = {"name": "ge2e"}, {"name": "campplus"}
_AUGMENT = {"gain_db": 6.0, "equaliser_db": 6.0, "noise_snr_db": [10.0, 30.0], "room_seconds": 0.3, "speed": 0.05}
_BOTH_MEMBERS = {"member": {"name": "cosine"}, "members": {"campplus": {"features": 1, "cosine": 1}}}


def _section(*encoders: dict[str, Any], seconds: float, loss: str | None = None, **others: Any) -> dict[str, Any]:
    window = {"seconds": seconds, "items": None, "every_n_steps": 1, **others.pop("window", {})}
    name = loss or ("ensemble" if len(encoders) > 1 else "cosine")
    params = others.pop("params", {})
    return {
        "encoders": [dict(encoder) for encoder in encoders],
        "loss": {"name": name, "params": params},
        "window": window,
        **others,
    }


def _both(seconds: float = 2.0, **others: Any) -> dict[str, Any]:
    return _section(GE2E, CAMPPLUS, seconds=seconds, **others)


BASE = "both-2s"
"""The arm whose strength at a weight of 9 the others have."""

ARMS = (
    Arm("none", {"enabled": False, "weight": 0.0}, "control", "training without the loss", None),
    Arm(
        "stock",
        {
            "encoders": [{**GE2E, "policy": "trainable"}], "weight": 9.0, "reference": {"source": "segment"},
            "window": {"seconds": 0.0, "items": None, "every_n_steps": 1},
        },
        "control", "coqui-tts 0.28: the encoder trains along, and hears bare slices", None,
    ),
    Arm("both-slice", _both(0.0), "window", "Coqui's slice of half a second"),
    Arm("both-0.5s", _both(0.5), "window", "a window as long as the slice"),
    Arm("both-1s", _both(1.0), "window", "1 s"),
    Arm(BASE, _both(), "window", "2 s"),
    Arm("both-4s", _both(4.0), "window", "4 s"),
    Arm("ge2e-2s", _section(GE2E, seconds=2.0), "encoder", "the LSTM alone"),
    Arm("campplus-2s", _section(CAMPPLUS, seconds=2.0), "encoder", "the convolutional network alone"),
    Arm("features-2s", _section(CAMPPLUS, seconds=2.0, loss="features"), "loss", "feature maps of CAM++ alone"),
    Arm("both-features-2s", _both(params=_BOTH_MEMBERS), "loss", "cosine, and feature maps of CAM++ with it"),
    Arm("both-augment-2s", _both(augment=_AUGMENT), "augment", "a recording channel before the encoders"),
    Arm("both-2s-third", _both(), "strength", "a third of the gradient", 1 / 3),
    Arm("both-2s-triple", _both(), "strength", "three times the gradient", 3.0),
    Arm("both-2s-share", _both(gradient_share=1.0), "strength", "as a share of 1 of the mel loss's gradient", None),
    Arm("both-2s-one", _both(window={"items": 1}), "sparse", "one of the four items a step"),
    *(
        Arm(
            f"items-4-every-{every}", _both(weight=9.0, window={"items": 4, "every_n_steps": every}),
            "sparse", f"all four items, in every step of {every}", None,
        )
        for every in (4, 8)
    ),
    Arm(
        "prior-mel-2s", {"enabled": False, "weight": 0.0, "window": {"seconds": 2.0}},
        "prior", "without the loss, and with the mel loss of the prior's window", None, prior=True,
    ),
    Arm("prior-2s", _both(weight=9.0), "prior", "with both", None, prior=True),
)  # fmt: skip


def arm_named(name: str) -> Arm:
    """Return an arm. Raises KeyError if there is none of this name."""
    return {arm.name: arm for arm in ARMS}[name]

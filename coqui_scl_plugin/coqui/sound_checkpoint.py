"""The newest sound checkpoint of a run that is continued; torn ones are set aside."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coqui_scl_plugin.coqui.whole_files import copy_whole
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.checkpoint import damaged_part, read_checkpoint, why_unreadable

_NUMBERED = re.compile(r"(checkpoint|best_model)_(\d+)\.pth")
_ADVICE = re.compile(r"[.:] [Cc]opy or download it again")
_BEST = "best_model.pth"


@dataclass(frozen=True)
class Torn:
    """A checkpoint that cannot be read."""

    path: Path
    why: str
    """What is wrong with it, as the end of the sentence "It is …"."""


@dataclass(frozen=True)
class Continued:
    """What a run goes on from."""

    checkpoint: Path
    best: Path
    """The best model, or the checkpoint where there is none."""
    message: str
    """What was set aside, and how many steps are lost; empty if nothing is."""


def why_torn(path: Path) -> str | None:
    """Say what is wrong with a checkpoint that was cut off, changed on the disk or is none; None if it is sound.

    Raises:
        ConfigError: it cannot be read at all, which does not tell whether it is sound.
    """
    try:
        with path.open("rb") as content:
            content.read(1)
    except OSError as error:
        raise ConfigError(
            f"The checkpoint {path} cannot be read: {error.strerror}. Remove it to do without."
        ) from error
    try:
        state = read_checkpoint(str(path))
        damaged = damaged_part(str(path))
    except Exception as error:  # noqa: BLE001  # whatever the bytes of a torn file bring about
        return _ADVICE.sub("", why_unreadable(str(path), error))
    if damaged is not None:
        return f"damaged: the checksum of its part {damaged!r} is wrong"
    if not isinstance(state, Mapping) or not isinstance(state.get("step"), int | float):
        return "no checkpoint of Coqui's trainer, since it names no step"
    return None


def step_of(path: Path) -> int | None:
    """Return the step in the name of a checkpoint; None if it has none."""
    found = _NUMBERED.fullmatch(path.name)
    return int(found[2]) if found else None


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, newest first; those of one step with `checkpoint_N.pth` first."""
    numbered = [path for path in folder.glob("*.pth") if step_of(path) is not None]
    numbered.sort(key=lambda path: (-(step_of(path) or 0), path.name.startswith("best")))
    return numbered + [path for path in (folder / _BEST,) if path.is_file()]


def sound_beside(path: Path) -> Path | None:
    """Return the newest sound checkpoint in the folder of a torn one; None if there is none."""
    others = (other for other in checkpoints_of(path.parent) if other.name != path.name)
    return next((other for other in others if why_torn(other) is None), None)


def find_sound(folder: Path) -> Continued:
    """Set aside the torn checkpoints of a run, and return the newest sound one.

    `best_model.pth`, Coqui's copy of the best model, is made again where it is torn, missing or of a former one.

    Only what the run goes on from is read: the newest checkpoint, older ones up to the first sound one, and the best
    model.

    Raises:
        ConfigError: the run has no sound checkpoint. All are left where they are.
    """
    torn: list[Torn] = []
    sound = _newest(checkpoints_of(folder), torn)
    if sound is None:
        raise ConfigError(_nothing_to_continue(folder, torn))
    named = [path for path in checkpoints_of(folder) if path.name.startswith("best")]
    best = _newest([path for path in named if path.name != _BEST], torn)
    copy = _newest([path for path in named if path.name == _BEST], torn)
    lines = [_set_aside(each) for each in torn]
    if best is not None and (copy is None or _saved_step(copy) < _saved_step(best)):
        copy_whole(best, folder / _BEST)
    elif copy is not None and (best is None or _saved_step(copy) > _saved_step(best)):
        best = copy  # of one that is torn
    if best is not None and _saved_step(best) > _saved_step(sound):
        sound = best
    if torn:
        lines.append(f"The run goes on from {sound.name}{_lost(sound, torn)}.")
    return Continued(sound, best or sound, "\n".join(lines))


def _newest(paths: list[Path], torn: list[Torn]) -> Path | None:
    """Return the first sound one; torn ones before it are added to `torn`."""
    for path in paths:
        if any(path == each.path for each in torn):
            continue
        if (why := why_torn(path)) is None:
            return path
        torn.append(Torn(path, why))
    return None


def _saved_step(path: Path) -> int:
    return int(read_checkpoint(str(path))["step"])


def _set_aside(torn: Torn) -> str:
    """Rename a torn checkpoint so that neither Coqui nor this plugin takes it for one, and say so."""
    aside = torn.path.with_name(f"torn_{torn.path.name}.aside")
    with contextlib.suppress(FileNotFoundError):  # another process of the same run was first
        torn.path.replace(aside)
    return f"{torn.path} is {torn.why}. It was set aside as {aside.name}."


def _lost(sound: Path, torn: list[Torn]) -> str:
    steps = [step for each in torn if (step := step_of(each.path)) is not None]
    newest, own = max(steps, default=None), step_of(sound)
    if own is None:
        own = _saved_step(sound)
    if newest is None or newest <= own:
        return "; no step is lost"
    return f"; {newest - own} steps are lost (from step {own} to step {newest})"


def _nothing_to_continue(folder: Path, torn: list[Torn]) -> str:
    anew = f"Start it again: coqui-scl train --config_path {folder / 'config.json'}"
    if not torn:
        return f"--continue_path {folder}: there is no checkpoint in it. {anew}, with a smaller save_step."
    found = ", ".join(f"{each.path.name} is {each.why}" for each in torn)
    return (
        f"--continue_path {folder}: none of its checkpoints is sound: {found}. Put a copy of one of them there, or "
        f"another checkpoint under the name checkpoint_N.pth. {anew}; --restore_path takes the weights of another run."
    )

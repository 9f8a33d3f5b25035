"""The model of a run as stock's `Vits` loads it: its weights, its speakers and its languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from TTS.config import load_config
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.run_folder import TrainedRun
from coqui_scl_plugin.coqui.stock_config import stock_config
from coqui_scl_plugin.errors import ConfigError, SclError
from coqui_scl_plugin.utils.checkpoint import read_checkpoint
from coqui_scl_plugin.utils.fingerprint import same_bits

_TOKENS = 24
"""Length of the made-up text with which models are compared."""
_SEED = 0


@dataclass(frozen=True)
class StockModel:
    """What a stock model folder holds."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    speakers: list[str]
    """Names in the order of the speaker table; empty for a model without speakers."""
    languages: list[str]
    """Names in the order of their ids."""
    d_vectors: dict[str, list[float]]
    """The mean d-vector of each speaker, as given; empty unless the run was trained with d-vectors."""


def stock_model(run: TrainedRun, *, discriminator: bool) -> StockModel:
    """Return the stock model that speaks as the run's does.

    A model with d-vectors gets a speaker table whose rows are each speaker's mean d-vector: what Coqui computes from
    the file at each sentence. The d-vector file can stay behind, which stock would look for in the current folder.

    Args:
        run: The run and its model.
        discriminator: Whether to take the discriminator along, which only training needs.

    Raises:
        ConfigError: the model has weights that are not finite, ids with gaps, or no stock discriminator.
    """
    manager, languages = run.model.speaker_manager, run.model.language_manager.name_to_id
    completed = run.model.config  # with the characters, which Coqui puts into a copy
    args = completed.model_args
    has_speakers = manager is not None and (args.use_speaker_embedding or args.use_d_vector_file)
    speakers = _in_order(manager.name_to_id, "speakers") if has_speakers else []
    d_vectors, weights = {}, dict(run.model.cpu().state_dict())
    if args.use_d_vector_file:
        means = {name: torch.tensor(manager.get_mean_embedding(name), dtype=torch.float) for name in speakers}
        weights["emb_g.weight"] = torch.cat([normalize(mean[None]) for mean in means.values()])
        d_vectors = {name: mean.tolist() for name, mean in means.items()}
    if discriminator:
        weights |= _discriminator(run.checkpoint)
    _check_finite(run.checkpoint, weights)
    config = stock_config(completed, speakers, _in_order(languages, "languages"), discriminator=discriminator)
    return StockModel(config, weights, speakers, config["languages"], d_vectors)


def _in_order(ids: Mapping[str, int], what: str) -> list[str]:
    names = sorted(ids, key=lambda name: ids[name])
    if [ids[name] for name in names] != list(range(len(names))):
        raise ConfigError(
            f"The ids of the {len(names)} {what} must be 0 to {len(names) - 1}, each once; they are "
            f"{sorted(ids.values())[:10]}. Repair the file of {what} that the run's config names."
        )
    return names


def _discriminator(checkpoint: Path) -> dict[str, Tensor]:
    state: Mapping[str, Tensor] = read_checkpoint(str(checkpoint))["model"]
    found = {name: value for name, value in state.items() if name.startswith("disc.")}
    if not found:
        raise ConfigError(f"--discriminator: {checkpoint} has none. Leave the option out, or name a --checkpoint.")
    return found


def _check_finite(checkpoint: Path, weights: Mapping[str, Tensor]) -> None:
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ConfigError(
            f"{checkpoint}: {len(broken)} of {len(weights)} tensors are not finite, such as {broken[0]}: this model "
            "cannot speak. Name an earlier one by --checkpoint."
        )


# --- as stock loads it ------------------------------------------------------------------------------------------------


def load_stock(folder: Path) -> Vits:
    """Load a model folder as stock's `Synthesizer` does.

    Raises:
        ConfigError: the weights do not fit a stock model.
    """
    config = load_config(folder / "config.json")
    model = Vits(config)
    try:
        model.load_checkpoint(config, str(folder / "model.pth"), eval=True)
    except RuntimeError as error:
        what = "--discriminator: the run's is not that of a stock model" if hasattr(model, "disc") else "The model"
        raise ConfigError(f"{what}: {str(error)[:300]}") from error
    return model


def made_up_tokens(model: Vits, length: int) -> Tensor:
    """Return `[1, length]`, the same tokens at each call, among those that the model knows."""
    drawn = torch.randint(model.args.num_chars, (1, length), generator=torch.Generator().manual_seed(length))
    return drawn.to(model.device)


def say(model: Vits, tokens: Tensor, conditioning: Mapping[str, Tensor], language: int) -> Tensor:
    """Return `[T]`, the speech of tokens `[1, N]`, with the same random draws at each call."""
    aux = {"x_lengths": torch.tensor([tokens.shape[1]]), "language_ids": torch.tensor([language]), **conditioning}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        spoken: Tensor = model.inference(tokens, aux)["model_outputs"][0, 0]
    return spoken


def check_same_speech(run: TrainedRun, exported: Vits, speakers: Sequence[str]) -> None:
    """Check that the exported model speaks as the run's does, bit by bit, in the first and the last voice.

    Raises:
        SclError: it does not.
    """
    _check_same_tokens(run.model, exported)
    tokens = made_up_tokens(exported, _TOKENS)
    languages = exported.language_manager.num_languages
    ids = sorted({0, len(speakers) - 1}) if speakers else [None]
    for language in sorted({0, languages - 1}):
        for speaker in ids:
            theirs: dict[str, Tensor] = {} if speaker is None else {"speaker_ids": torch.tensor([speaker])}
            ours = theirs
            if speaker is not None and run.config.model_args.use_d_vector_file:
                mean = run.model.speaker_manager.get_mean_embedding(speakers[speaker])
                ours = {"d_vectors": torch.tensor(mean, dtype=torch.float)[None]}
            if not same_bits(say(run.model, tokens, ours, language), say(exported, tokens, theirs, language)):
                raise SclError("The exported model does not speak as the run's does; please report this.")


def _check_same_tokens(ours: Vits, theirs: Vits) -> None:
    before, after = ours.tokenizer, theirs.tokenizer
    same = (
        before.characters.vocab == after.characters.vocab
        and before.text_cleaner is after.text_cleaner
        and (before.use_phonemes, before.add_blank, before.use_eos_bos)
        == (after.use_phonemes, after.add_blank, after.use_eos_bos)
        and ours.language_manager.name_to_id == theirs.language_manager.name_to_id
    )
    if not same:
        raise SclError("The exported model reads texts unlike the run's does; please report this.")

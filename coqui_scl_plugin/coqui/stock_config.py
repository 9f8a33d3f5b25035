"""The config of a stock model folder: what Coqui needs to speak, and nothing of the machine that trained it."""

from collections.abc import Mapping, Sequence
from typing import Any

from TTS.tts.configs.vits_config import VitsArgs

from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import shown

_KEPT = (
    "text_cleaner", "use_phonemes", "phonemizer", "phoneme_language", "add_blank", "enable_eos_bos_chars",
)  # fmt: skip
"""Keys that decide which tokens a text becomes."""
_FILES = ("speakers_file", "d_vector_file", "language_ids_file")
_FOR_TRAINING = (
    "use_speaker_encoder_as_loss", "speaker_encoder_model_path", "speaker_encoder_config_path",
    "freeze_encoder", "freeze_DP", "freeze_PE", "freeze_flow_decoder", "freeze_waveform_decoder",
    "reinit_DP", "reinit_text_encoder",
)  # fmt: skip
"""Keys of `model_args` that would load a speaker encoder, or only matter in training: they get stock's defaults."""


def stock_config(
    config: SclVitsConfig, speakers: Sequence[str], languages: Sequence[str], *, discriminator: bool
) -> dict[str, Any]:
    """Return the content of `config.json`; what it leaves out has stock's defaults.

    Stock opens the files that a config names relative to the current folder, and of the speakers and languages in
    lists it opens none: so a folder without paths can be moved, and loads from anywhere.

    Args:
        config: Config of the run, as its model completed it.
        speakers: Names in the order of the rows of the speaker table; none for a model without one.
        languages: Names in the order of their ids.
        discriminator: Whether the weights have a discriminator.

    Raises:
        ConfigError: the characters are of a class that is not Coqui's own.
    """
    characters = config.characters.to_dict()
    if not str(characters["characters_class"]).startswith("TTS."):
        raise ConfigError(
            f"characters.characters_class = {shown(characters['characters_class'])}: must be one of Coqui's own "
            "classes, since a stock installation has no other."
        )
    return {
        "model": "vits",
        "model_args": _model_args(config, speakers, discriminator=discriminator),
        "audio": {**config.audio.to_dict(), "stats_path": None},
        "characters": characters,
        **{key: config[key] for key in _KEPT},
        "datasets": _phonemizers(config),
        "speakers": list(speakers),
        "languages": list(languages),
        "test_sentences": [],
    }


def _model_args(config: SclVitsConfig, speakers: Sequence[str], *, discriminator: bool) -> dict[str, Any]:
    """Return the architecture, in which d-vectors are rows of a speaker table."""
    args, stock = config.model_args.to_dict(), VitsArgs().to_dict()
    args = {key: value for key, value in args.items() if key in stock}
    args.update({key: stock[key] for key in (*_FILES, *_FOR_TRAINING)}, init_discriminator=discriminator)
    if args["use_d_vector_file"]:
        args.update(
            use_d_vector_file=False, use_speaker_embedding=bool(speakers),
            speaker_embedding_channels=args["d_vector_dim"], d_vector_dim=0,
        )  # fmt: skip
    return args


def _phonemizers(config: SclVitsConfig) -> list[Mapping[str, str]]:
    """Return the phonemizer of each language, which Coqui reads from `datasets`; nothing else of them is kept."""
    if not config.use_phonemes or config.phonemizer != "multi_phonemizer":
        return []
    by_language = {dataset.language: dataset.phonemizer for dataset in config.datasets}
    return [{"language": language, "phonemizer": phonemizer} for language, phonemizer in by_language.items()]

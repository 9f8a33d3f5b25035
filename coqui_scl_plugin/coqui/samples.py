"""The samples of a config as Coqui lists and splits them, and a small batch of them."""

import contextlib
import copy
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from TTS.tts.configs.shared_configs import BaseTTSConfig
from TTS.tts.datasets import load_tts_samples
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.distributed import load_alone
from coqui_scl_plugin.coqui.listing import is_no_file, list_datasets
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError, EvaluationSetError, PreflightError
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.listing import Listing
from coqui_scl_plugin.preflight.metadata import check_metadata
from coqui_scl_plugin.utils.log_level import log_level
from coqui_scl_plugin.utils.shown import shown

Samples = list[dict[str, Any]]
Sample = Mapping[str, Any]

_BATCH_SIZE, _SPEAKERS_FOR_NEGATIVES = 2, 4
"""Items of a small batch; of one for a loss that compares speakers."""
_MIN_SPREAD_SAMPLES = 200
"""Number of recordings, spread evenly over the data set, from which the small batch is taken."""


def list_samples(config: SclVitsConfig, listings: Sequence[Listing] = ()) -> tuple[Samples, Samples]:
    """List the training and the evaluation samples, as Coqui will split them.

    Args:
        config: The config.
        listings: What `list_datasets` returned, if that was called; no formatter then reads the same file again.

    Raises:
        ConfigError: samples cannot be listed.
    """
    known = {listing.key: listing.samples for listing in listings if listing.samples is not None}
    sizes = {"eval_split_max_size": config.eval_split_max_size, "eval_split_size": config.eval_split_size}
    with _reading(config):
        _check_split(config, known)
        train, evaluation = load_tts_samples(config, eval_split=True, formatter=_known_rows(config, known), **sizes)
    return train, evaluation


def list_all_samples(config: SclVitsConfig) -> Samples:
    """List the samples of all datasets, including those of `meta_file_val`, unsplit. Raises ConfigError."""
    with _reading(config):
        samples, _ = load_tts_samples(config, eval_split=False)
        if apart := [dataset for dataset in config.datasets if dataset.meta_file_val]:
            samples += load_tts_samples(BaseTTSConfig(datasets=apart), eval_split=True)[1]
    return list(samples)


@contextlib.contextmanager
def _reading(config: SclVitsConfig) -> Iterator[None]:
    """Raise a ConfigError that says why samples cannot be listed."""
    if not config.datasets:
        example = '[{"formatter": "coqui", "path": "DIR", "meta_file_train": "metadata.csv"}]'
        raise ConfigError(f"datasets = []: name at least one, e.g. {example}.")
    for index, dataset in enumerate(config.datasets):
        if not os.path.isdir(dataset.path):  # noqa: PTH112  # Path raises for names that are too long
            raise ConfigError(f"datasets.{index}.path = {shown(dataset.path)}: {_why_no_folder(str(dataset.path))}")
        for key in ("meta_file_train", "meta_file_val"):
            if is_no_file(dataset, dataset[key]):
                raise ConfigError(f"datasets.{index}.{key} = {shown(dataset[key])}: is a pipe or a device, not a file.")
    try:
        yield
    except Exception as error:
        findings = check_metadata(ConfigFacts(config=config, list_datasets=lambda: list_datasets(config)))
        if causes := [f"{finding.found} {finding.change}" for finding in findings if finding.is_error]:
            raise ConfigError("\n".join(causes)) from error
        if isinstance(error, ConfigError):
            raise
        folders = ", ".join(str(Path(dataset.path) / dataset.meta_file_train) for dataset in config.datasets)
        raise ConfigError(
            f"datasets: no samples could be read from {folders}: {str(error).strip() or repr(error)}."
        ) from error


def _why_no_folder(path: str) -> str:
    if "://" in path:
        return "a URL is no folder, and Coqui does not download. Name the folder of a copy."
    if os.path.isfile(path):  # noqa: PTH113  # as above
        return "it is a file. Name the folder of the data set, and the file in meta_file_train, relative to it."
    return f"there is no such folder.{' Coqui does not expand ' + repr('~') + '.' if path.startswith('~') else ''}"


def _known_rows(config: SclVitsConfig, known: Mapping[str, Sequence[Sample]]) -> Callable[..., Samples] | None:
    """Return a formatter that gives what Coqui's gave before; None if it did not, or for several data sets."""
    if len(config.datasets) != 1:  # Coqui takes a formatter for the first one alone
        return None
    dataset, keys = config.datasets[0], ["meta_file_train"]
    keys += ["meta_file_val"] if dataset.meta_file_val else []
    rows = [(dataset[key], known[path]) for key in keys if (path := f"datasets.0.{key}") in known]
    if len(rows) < len(keys):
        return None
    return lambda _root, file, **_: [dict(row) for row in next(own for name, own in rows if name == file)]


def _check_split(config: SclVitsConfig, known: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse a split that Coqui would refuse, or search for without end. Raises ConfigError."""
    share = config.eval_split_size
    for index, dataset in enumerate(config.datasets):
        if dataset.meta_file_val:
            continue
        samples = known.get(f"datasets.{index}.meta_file_train")
        if samples is None:
            with log_level(logging.ERROR, "TTS"):  # what Coqui warns of is shown when all samples are listed
                samples, _ = load_tts_samples(BaseTTSConfig(datasets=[dataset]), eval_split=False)
        speakers = {sample["speaker_name"] for sample in samples}
        wanted, spare = int(share if share > 1 else len(samples) * share), len(samples) - len(speakers)
        if share <= 1 and config.eval_split_max_size:
            wanted = min(wanted, config.eval_split_max_size // len(config.datasets))
        if wanted < 1:
            msg = (
                f"eval_split_size = {share}: with {len(samples)} recordings, the evaluation set of datasets.{index} "
                f"would be empty. Set it to at least {1 / max(1, len(samples)):.2g}, or name meta_file_val."
            )
            raise EvaluationSetError(msg)
        if len(speakers) > 1 and wanted > spare:
            msg = (
                f"eval_split_size = {share}: {wanted} recordings of datasets.{index} are to be held out, but to leave "
                f"one for training to each of its {len(speakers)} speakers, only {spare} of {len(samples)} can be. "
                "Lower it, add recordings, or name meta_file_val."
            )
            raise ConfigError(msg)


# --- batches ----------------------------------------------------------------------------------------------------------


def data_loader(model: Vits, config: SclVitsConfig, samples: Sequence[Sample], **changes: Any) -> Any:
    """Make Coqui's evaluation loader, without progress bars and without computing the phonemes of all samples."""
    config = copy.copy(config)
    for name, value in {"precompute_num_workers": 0, **changes}.items():
        setattr(config, name, value)
    load_alone()
    with log_level(logging.WARNING, "TTS"), contextlib.redirect_stderr(io.StringIO()):
        return model.get_data_loader(config, is_eval=True, samples=[dict(s) for s in samples], verbose=False)


def dataset_that_fits(model: Vits, config: SclVitsConfig, samples: Sequence[Sample]) -> Any:
    """Make a data set of recordings whose length Coqui accepts, from only some of them, since it opens each file."""
    try:
        spread = samples[:: max(1, len(samples) // _MIN_SPREAD_SAMPLES)]
        return data_loader(model, config, spread, use_weighted_sampler=False).dataset
    except RuntimeError:  # No samples left
        pass
    try:
        return data_loader(model, config, samples, use_weighted_sampler=False).dataset
    except RuntimeError as error:
        raise PreflightError(
            f"Coqui can use none of the {len(samples)} samples: {str(error).strip().rstrip('.')}. Their recordings "
            "must be wav, flac or mp3 by name and content, and their lengths within min_audio_len, max_audio_len, "
            "min_text_len and max_text_len."
        ) from error


def small_batch(model: Vits, config: SclVitsConfig, samples: Sequence[Sample]) -> dict[str, Any]:
    """Make a small real batch on the model's device, with different speakers if there are several."""
    consistency = getattr(model, "speaker_encoder_loss", None)
    needed = consistency.loss.min_batch_speakers if consistency is not None else 1
    size = max(needed, _SPEAKERS_FOR_NEGATIVES) if needed > 1 else _BATCH_SIZE
    dataset = dataset_that_fits(model, config, samples)
    by_speaker: dict[str, int] = {}
    for index, sample in enumerate(dataset.samples):
        by_speaker.setdefault(sample["speaker_name"], index)
    batch = model.format_batch(dataset.collate_fn([dataset[i] for i in list(by_speaker.values())[:size]]))
    if not batch:
        msg = "The checks heard no recording that can be used: the warnings above name them. Repair or remove them."
        raise PreflightError(msg)
    device = next(model.parameters()).device
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    formatted: dict[str, Any] = model.format_batch_on_device(moved)
    return formatted

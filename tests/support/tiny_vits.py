"""The architecture of a VITS that takes a fraction of a second a step on two cores, and configs of runs with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

RATE = 16_000

SIZES: dict[str, Any] = {
    "hidden_channels": 32,
    "hidden_channels_ffn_text_encoder": 32,
    "num_layers_text_encoder": 1,
    "num_layers_posterior_encoder": 2,
    "num_layers_flow": 1,
    "upsample_initial_channel_decoder": 32,
    "resblock_type_decoder": "2",
    "resblock_kernel_sizes_decoder": [3],
    "resblock_dilation_sizes_decoder": [[1, 2]],
    "periods_multi_period_discriminator": [],
    "spec_segment_size": 16,
    "use_sdp": False,
    "use_speaker_embedding": True,
    "speaker_embedding_channels": 16,
}
"""Fields of `model_args`."""

PLAIN: dict[str, Any] = {
    "loss": {"name": "cosine"},
    "encoders": [{"name": "ge2e"}],
    "window": {"seconds": 0.0, "items": None, "every_n_steps": 1},
}
"""A section of one encoder that hears Coqui's slices in every step; a pass is quicker than the default section's."""


def dataset(folder: Path, table: str = "metadata.csv", **more: str) -> dict[str, str]:
    """Return an entry of `datasets` for a folder of recordings with a table for Coqui's formatter `coqui`."""
    return {"formatter": "coqui", "dataset_name": "toy", "path": str(folder), "meta_file_train": table, **more}


def run_config(
    folder: Path, *, args: Mapping[str, Any] | None = None, encoder: str = "ge2e", **changes: Any
) -> dict[str, Any]:
    """Return a sound config of a short run on the speech in `folder`, with `changes` of it and of its `model_args`.

    Stock's `vits` has no section `scl`; that of other models is `PLAIN`, with the encoder and with `scl` of `changes`.
    """
    section = {} if changes.get("model") == "vits" else {"scl": PLAIN | {"encoders": [{"name": encoder}]}}
    if section and isinstance(given := changes.get("scl"), dict):
        changes = changes | {"scl": section["scl"] | given}
    return {
        "model": "scl_vits",
        "model_args": SIZES | dict(args or {}),
        "audio": {"sample_rate": RATE},
        "datasets": [dataset(folder)],
        "text_cleaner": "basic_cleaners",
        "output_path": "runs",
        "batch_size": 4,
        "eval_batch_size": 4,
        "eval_split_size": 3,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "epochs": 1,
        "test_delay_epochs": 9,
        **section,
        **changes,
    }

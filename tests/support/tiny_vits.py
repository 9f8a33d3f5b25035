"""The architecture of a VITS that takes a fraction of a second a step on two cores."""

from typing import Any

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

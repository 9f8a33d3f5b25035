"""A VITS small enough to train on two cores in minutes, and its training config."""

from pathlib import Path

from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.vits_config import VitsArgs

from coqui_scl_plugin.config import EncoderConfig, SclConfig
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.demo.corpus_files import Corpus, dataset_config


def small_args() -> VitsArgs:
    """Return a generator of a million parameters and only the scale discriminator, since others cost most of a step."""
    return VitsArgs(
        hidden_channels=64,
        hidden_channels_ffn_text_encoder=64,
        num_layers_text_encoder=2,
        num_layers_posterior_encoder=4,
        num_layers_flow=2,
        upsample_initial_channel_decoder=64,
        resblock_type_decoder="2",
        resblock_kernel_sizes_decoder=[3, 5],
        resblock_dilation_sizes_decoder=[[1, 2], [2, 6]],
        periods_multi_period_discriminator=[],
        use_sdp=False,
        use_speaker_embedding=True,
        speaker_embedding_channels=32,
    )


def small_config(corpus: Corpus, *, steps: int, batch_size: int, seed: int, runs: Path) -> SclVitsConfig:
    """Return a config for one epoch of exactly `steps` steps, on a list of `steps * batch_size` samples.

    Args:
        corpus: Speech to train on.
        steps: Number of training steps.
        batch_size: Segments per step.
        seed: Seed of initial weights, order and slices.
        runs: Folder in which Coqui's trainer creates the run folder.
    """
    return SclVitsConfig(
        model_args=small_args(),
        audio=BaseAudioConfig(sample_rate=corpus.rate),
        datasets=[dataset_config(corpus.folder)],
        speakers=corpus.speakers,
        text_cleaner="basic_cleaners",
        output_path=str(runs),
        epochs=1,
        batch_size=batch_size,
        batch_group_size=steps,  # one group, so that the trainer shuffles the whole list
        num_loader_workers=0,
        num_eval_loader_workers=0,
        run_eval=False,
        test_delay_epochs=1,
        print_step=1,
        plot_step=10,
        save_checkpoints=False,
        save_best_after=steps,  # the demo saves its model itself, without optimizer state
        training_seed=seed,
        lr_gen=5e-4,
        lr_disc=5e-4,
        scl=SclConfig(encoders=[EncoderConfig(name="ge2e")]),
    )

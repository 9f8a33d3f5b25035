"""A VITS small enough to train on two cores, its training config, and the `scl` section of the demo."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.vits_config import VitsArgs
from TTS.tts.layers.vits.discriminator import DiscriminatorS

from coqui_scl_plugin.config import EncoderConfig, SclConfig
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.demo.corpus_files import Corpus, dataset_config
from coqui_scl_plugin.encoders.build import check_weights_are_there
from coqui_scl_plugin.errors import EncoderError

START_RATES = {"early": 5e-4, "late": 2e-4}
"""Learning rates of the start: of the first three quarters of its blocks, and of the last."""
FINE_TUNING_RATE = 2e-4
"""Learning rate of the demo's two runs: the one with which the start ended, Coqui's default."""


def demo_section(corpus: Corpus) -> SclConfig:
    """Return the section of the demo: the default one with a held-out encoder.

    The window is no longer than the shortest recording, which would shorten it anyway. Without the weights of
    campplus, the loss trains against ge2e alone.
    """
    section = SclConfig(holdout=[EncoderConfig(name="dvector")])
    section.window.seconds = min(section.window.seconds, corpus.shortest)
    try:
        check_weights_are_there([EncoderConfig(name="campplus")])
    except EncoderError:
        section.encoders = [EncoderConfig(name="ge2e")]
    return section


def small_args() -> VitsArgs:
    """Return a generator of 1.7 million parameters, and only the scale discriminator."""
    return VitsArgs(
        hidden_channels=64,
        hidden_channels_ffn_text_encoder=64,
        num_layers_text_encoder=2,
        num_layers_posterior_encoder=4,
        num_layers_flow=2,
        upsample_initial_channel_decoder=192,
        resblock_type_decoder="2",
        resblock_kernel_sizes_decoder=[3, 5],
        resblock_dilation_sizes_decoder=[[1, 2], [2, 6]],
        periods_multi_period_discriminator=[],
        use_sdp=False,
        use_speaker_embedding=True,
        speaker_embedding_channels=32,
    )


class NarrowDiscriminator(DiscriminatorS):
    """Coqui's scale discriminator, narrower."""

    _layers = (  # channels before and after, width, stride, groups
        (1, 8, 15, 1, 1), (8, 32, 41, 4, 4), (32, 64, 41, 4, 8), (64, 128, 41, 4, 16), (128, 128, 41, 4, 16),
        (128, 128, 5, 1, 1),
    )  # fmt: skip

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(before, after, width, stride, groups=groups, padding=width // 2))
            for before, after, width, stride, groups in self._layers
        )
        self.conv_post = weight_norm(nn.Conv1d(128, 1, 3, padding=1))


class SmallVits(SclVits):
    """`SclVits` with a discriminator for which two cores suffice: Coqui's own is two thirds of a step."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Put the narrow one in place while stock's constructor runs."""
        super().__setattr__(name, value)
        if name == "disc":
            self.disc.nets[0] = NarrowDiscriminator()


def small_config(corpus: Corpus, *, steps: int, batch_size: int, seed: int, runs: Path) -> SclVitsConfig:
    """Return a config for one epoch of exactly `steps` steps, on a list of `steps * batch_size` samples.

    Its section is the default one.

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
        lr_gen=FINE_TUNING_RATE,
        lr_disc=FINE_TUNING_RATE,
    )

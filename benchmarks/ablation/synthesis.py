"""The speech of the ablation's models: held-out recordings reconstructed and converted, and their sentences spoken."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from benchmarks.ablation.model import log_mel
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.vits_audio import convert_voice, reconstruct, speak, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.demo.small_vits import SmallVits
from coqui_scl_plugin.evaluation.evaluation_set import SyntheticRecording

WAYS = {"reconstruction": "Reconstruction", "conversion": "Conversion", "text": "Speech from text"}
"""Titles of the three ways to make speech."""


@dataclass(frozen=True)
class Made:
    """What a model made of the held-out recordings."""

    recordings: Mapping[str, list[SyntheticRecording]]
    """By way."""
    mel_losses: Mapping[str, list[float]]
    """Of the reconstructions, by speaker."""


def load_model(folder: Path) -> SmallVits:
    """Return the model of a run's folder, in eval mode: `model.pth`, as `config.json` describes it."""
    config = SclVitsConfig()
    config.load_json(str(folder / "config.json"))
    model = SmallVits(config)
    state = torch.load(folder / "model.pth", map_location="cpu", weights_only=True)["model"]
    model.load_state_dict({name: value for name, value in state.items() if "speaker_encoder" not in name})
    return model.eval()


def _mel_loss(model: SmallVits, synthetic: Tensor, real: Tensor) -> float:
    length = min(len(synthetic), len(real))
    made, recorded = (log_mel(model, waveform[None, :length]) for waveform in (synthetic, real))
    return float(l1_loss(made, recorded))


def _ways(model: SmallVits, sample: Sample, real: Tensor, other: str, seed: int) -> dict[str, Tensor]:
    """Return `[T]` by way: the beginning `real` of a recording in its own and another voice, and its whole sentence."""
    spec = spectrogram_for(model, real, model.config.audio.sample_rate)
    source = speaker_conditioning(model, sample["speaker_name"])
    made = {
        "reconstruction": reconstruct(model, spec, source),
        "conversion": convert_voice(model, spec, source, speaker_conditioning(model, other)),
    }
    torch.manual_seed(seed)  # of the text's latents
    return {**made, "text": speak(model, sample["text"], sample["speaker_name"])}


def make_speech(model: SmallVits, corpus: Corpus, folder: Path) -> Made:
    """Write WAY/SPEAKER-FILE.wav for each held-out recording; it is converted to the next speaker.

    The seed of a sentence is its place among the held-out ones, so that all models draw the same.
    """
    recordings: dict[str, list[SyntheticRecording]] = {way: [] for way in WAYS}
    mel_losses: dict[str, list[float]] = {speaker: [] for speaker in corpus.speakers}
    for seed, sample in enumerate(corpus.held_out):
        real, own = load_beginning(sample), sample["speaker_name"]
        other = corpus.speakers[(corpus.speakers.index(own) + 1) % len(corpus.speakers)]
        for way, waveform in _ways(model, sample, real, other, seed).items():
            speaker = other if way == "conversion" else own
            file = folder / way / f"{speaker}-{Path(sample['audio_file']).stem}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            heard = torch.nan_to_num(waveform)  # to silence, which no judge takes for the speaker
            soundfile.write(file, heard.clamp(-1, 1).numpy(), corpus.rate)
            recordings[way].append(
                SyntheticRecording(
                    f"{way}/{file.stem}", file, speaker, text=sample["text"] if way == "text" else "", language="en",
                    reference=sample["audio_unique_name"] if way == "reconstruction" else None,
                )
            )  # fmt: skip
            if way == "reconstruction":
                mel_losses[own].append(_mel_loss(model, heard, real))
    return Made(recordings, mel_losses)

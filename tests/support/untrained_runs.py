"""Run folders as Coqui's trainer leaves them, of models that were never trained, and a small corpus of real parts."""

import soundfile
import torch
from tiny_vits import SIZES
from trainer.io import save_model
from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.vits_config import VitsArgs

from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.demo import corpus_files

SPEAKERS = ("awb", "kal16", "slt")
RATE = 16_000


def write(path, samples, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def clip(speaker, number):
    samples, rate = soundfile.read(corpus_files.BUNDLED / speaker / f"{speaker}_{number:02}.flac")
    return samples[:rate]


def write_corpus(folder):
    """Three short recordings of each speaker, of which one is trained on: Coqui draws, and can take two of each."""
    lines = ["audio_file|text|speaker_name"]
    for speaker in SPEAKERS:
        for number in (1, 2, 3):
            write(folder / speaker / f"{number}.wav", clip(speaker, number))
            lines.append(f"{speaker}/{number}.wav|{speaker} says {'abc'[number - 1]}|{speaker}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_run(folder, data, seed, scl, *, speakers_file=False):
    """A run folder as Coqui's trainer leaves it, of a model as it begins."""
    folder.mkdir(parents=True)
    config = SclVitsConfig(
        model_args=VitsArgs(**SIZES),
        audio=BaseAudioConfig(sample_rate=RATE),
        datasets=[corpus_files.dataset_config(data)],
        speakers=list(SPEAKERS),
        text_cleaner="basic_cleaners",
        eval_split_size=6,
        output_path=str(folder.parent),
    )
    config.from_dict({"scl": scl})
    torch.manual_seed(seed)
    model = SclVits(config)
    if speakers_file:
        model.speaker_manager.save_ids_to_file(str(folder / "speakers.pth"))
        config.speakers_file = config.model_args.speakers_file = str(folder / "speakers.pth")
        config.speakers = None
    config.save_json(str(folder / "config.json"))
    save_model(config, model, str(folder / "best_model.pth"), current_step=7, epoch=1)

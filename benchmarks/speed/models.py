"""Models, real speech and references, as the figures need them."""

import contextlib
import copy
import functools
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
import transformers
from coqui_encoder_files import CoquiFiles, write_coqui_encoder
from hub_encoder_files import write_speechbrain, write_transformers
from torch import Tensor
from torch.nn.functional import normalize
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits

from benchmarks.speech import FOLDER, RATE, utterances
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.samples import data_loader
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.start import Start
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import Recording, recordings_of
from coqui_scl_plugin.utils.log_level import log_level

Section = Mapping[str, Any]
"""The `scl` section of a config, as in JSON."""

COQUIS_SLICE: Section = {"window": {"seconds": 0.0, "items": None}}
"""The part of a section that lets the loss hear Coqui's own slice of all items."""


class Slices(NamedTuple):
    """The shape of what the loss compares."""

    batch: int = 8
    samples: int = 8_192
    rate: int = 22_050


# --- encoders ---------------------------------------------------------------------------------------------------------


@functools.cache
def folder() -> Path:
    """Return a folder for files that go when the program ends."""
    made = tempfile.TemporaryDirectory()
    _folders.append(made)
    return Path(made.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def resnet_files() -> CoquiFiles:
    """Write Coqui's ResNet, the encoder of YourTTS, with random weights."""
    return write_coqui_encoder("resnet", folder())


@functools.cache
def encoder(name: str) -> Section:
    """Return the entry of `encoders` for one of `ENCODERS`, at its real size; its file is written if it has one."""
    if name == "resnet":
        return {"name": "coqui", "alias": name, "params": resnet_files().params()}
    if name == "ecapa":
        return {
            "name": "speechbrain",
            "alias": name,
            "params": {"source": str(write_speechbrain(name, folder() / name))},
        }
    if name == "wavlm":
        transformers.utils.logging.disable_progress_bar()
        source = write_transformers(name, folder() / name)
        return {"name": "transformers", "alias": name, "params": {"source": str(source)}}
    return {"name": name}


ENCODERS = ("resnet", "ge2e", "dvector", "campplus", "ecapa", "wavlm")


# --- models -----------------------------------------------------------------------------------------------------------


@functools.cache
def corpus() -> Corpus:
    """Return libri10."""
    return Corpus.load(FOLDER.resolve())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with log_level(logging.ERROR, "TTS", "trainer"):
        yield


def scl_model(section: Section, *, rate: int = RATE, full: bool = False) -> SclVits:
    """Return the demo's small model from the demo's start, or Coqui's full-size one, with its encoders, in train mode.

    Args:
        section: The `scl` section; what it does not say is as by default.
        rate: Sample rate of the generator's speech, in Hz.
        full: Whether it has the sizes of Coqui's defaults.
    """
    config = copy.deepcopy(small_config(corpus(), steps=1, batch_size=4, seed=0, runs=folder()))
    config.from_dict({"scl": dict(section)})
    config.audio.sample_rate = rate
    if full:
        config.model_args = VitsArgs(use_speaker_embedding=True)
    torch.manual_seed(0)
    with _quietly():
        model = SclVits(config) if full else SmallVits(config)
        if not full:
            Start.load().fill(model)
        model.parts.build_consistency()
    return model.train()


def stock_model(rate: int) -> Vits:
    """Return a stock model that trains with its own speaker consistency loss and Coqui's ResNet, in train mode."""
    sizes = dict(small_config(corpus(), steps=1, batch_size=4, seed=0, runs=folder()).model_args)
    config = VitsConfig(model_args=VitsArgs(**{**sizes, **resnet_files().stock_loss()}))
    config.audio.sample_rate = rate
    with _quietly():
        return Vits(config).train()


def term_of(model: SclVits) -> SpeakerConsistency:
    """Return the term of a model that has one."""
    if model.parts.consistency is None:
        raise ValueError("the section is off")
    return model.parts.consistency


def training_batch(model: SclVits, size: int, seconds: tuple[float, float] = (4.5, 7.0)) -> dict[str, Any]:
    """Return a batch of the trainer's, of recordings whose length is within `seconds`."""
    low, high = seconds
    fitting = [s for s in corpus().train if low <= soundfile.info(s["audio_file"]).duration <= high]
    dataset = data_loader(model, model.config, spread(fitting, size)).dataset
    items = dataset.collate_fn([dataset[index] for index in range(size)])
    batch: dict[str, Any] = model.format_batch_on_device(model.format_batch(items))
    return batch


def spread(samples: Sequence[Any], count: int) -> list[Any]:
    """Return `count` of the samples, evenly over the list, so of as many speakers as there are."""
    return [samples[index * len(samples) // count] for index in range(count)]


def hold_corpus(model: SclVits) -> SclVits:
    """Let a model hold made-up references of libri10, as if they had been in the cache; return it."""
    hold_references(term_of(model), recordings_of(corpus().train))
    return model


# --- speech and references --------------------------------------------------------------------------------------------


@functools.cache
def slices_of_speech(shape: Slices) -> Tensor:
    """Return real speech `[B, T]`, each slice a second into another recording, as if it were at any rate."""
    recordings = utterances()
    chosen = [recordings[(7 * item) % len(recordings)].waveform for item in range(shape.batch)]
    return torch.stack([waveform[RATE : RATE + shape.samples] for waveform in chosen])


def hold_references(consistency: SpeakerConsistency, recordings: Sequence[Recording]) -> None:
    """Let a term hold made-up embeddings, those of a speaker alike, as if its references had been in the cache."""
    generator = torch.Generator().manual_seed(0)
    speakers = {name: row for row, name in enumerate(sorted({recording.speaker for recording in recordings}))}
    rows = torch.tensor([speakers[recording.speaker] for recording in recordings])
    embeddings = {}
    for alias, prepared in consistency.encoders.segment_encoders.items():
        size = prepared.encoder.embedding_dim
        voices = torch.randn(len(speakers), size, generator=generator)
        own = 0.5 * torch.randn(len(recordings), size, generator=generator)
        embeddings[alias] = normalize(voices[rows] + own, dim=1)
    consistency.hold(ReferenceEmbeddings(recordings, embeddings))

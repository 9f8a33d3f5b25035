"""The start of the demo: a small VITS that speaks, trained on the bundled speech without the loss."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from TTS.tts.utils.text.tokenizer import TTSTokenizer

from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.utils.atomic import replacing

START = Path(__file__).parent / "start.safetensors"
"""Made by `scripts/make_demo_start.py`; its metadata says how."""
_METADATA = "demo_start"
_SPEAKERS = "emb_g.weight"


@dataclass(frozen=True)
class Start:
    """Weights to begin with."""

    weights: dict[str, Tensor]
    """Float32, by name."""
    speakers: list[str]
    """Names of the rows of the speaker embedding."""
    sample_rate: int
    """In Hz, of the speech that it learnt."""

    @classmethod
    def load(cls, file: Path = START) -> Self:
        """Read the file."""
        with safe_open(file, "pt") as opened:
            made = json.loads(opened.metadata()[_METADATA])
            weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118  # no mapping
        return cls(weights, made["speakers"], made["sample_rate"])

    def save(self, file: Path, **made: Any) -> None:
        """Write the file, in half precision, whole or not at all; `made` says how, and is part of its metadata.

        The same weights give the same bytes: all metadata is one entry, since safetensors orders entries at random.
        """
        described = json.dumps({**made, "speakers": self.speakers, "sample_rate": self.sample_rate})
        halves = {name: tensor.half().contiguous() for name, tensor in self.weights.items()}
        with replacing(file) as temporary:
            temporary.write_bytes(save(halves, {_METADATA: described}))

    def fill(self, model: SmallVits) -> None:
        """Load the weights into a model; a speaker unknown to the start begins at the mean of those it knows."""
        known = dict(zip(self.speakers, self.weights[_SPEAKERS], strict=True))
        mean = self.weights[_SPEAKERS].mean(dim=0)
        rows = [known.get(name, mean) for name in model.speaker_manager.speaker_names]
        model.load_state_dict({**self.weights, _SPEAKERS: torch.stack(rows)})

    def misfits(self, corpus: Corpus) -> str:
        """Return one line about what of the speech is new to the start; empty if nothing is."""
        new = [name for name in corpus.speakers if name not in self.speakers]
        parts = [
            f"{len(new)} of {len(corpus.speakers)} speakers, who begin as the mean of those it knows" if new else "",
            f"the sample rate, {corpus.rate} Hz in place of {self.sample_rate} Hz" * (corpus.rate != self.sample_rate),
            f"the characters {' '.join(unknown)}, which it cannot read" if (unknown := _unread(corpus)) else "",
        ]
        found = "; ".join(part for part in parts if part)
        return f"New to the start: {found}." if found else ""


def _unread(corpus: Corpus) -> list[str]:
    """Return the characters of the texts that the model's tokenizer leaves out."""
    config = small_config(corpus, steps=1, batch_size=1, seed=0, runs=corpus.folder)
    tokenizer, _ = TTSTokenizer.init_from_config(config)
    texts = (tokenizer.text_cleaner(sample["text"]) for sample in (*corpus.train, *corpus.held_out))
    return sorted({character for text in texts for character in text} - set(tokenizer.characters.vocab))

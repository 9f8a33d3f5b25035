"""A posterior encoder for a voice that comes without one."""

import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from coqui_scl_plugin.coqui.vits_audio import spectrogram_for
from coqui_scl_plugin.demo.small_vits import SmallVits

_STEPS, _BATCH_SIZE, _FRAMES = 500, 8, 96
_RATE, _LAST_RATE = 1e-3, 3e-4
_FEWEST, _KEPT = 24, 120  # spoken sentences to cut from
_LONGEST = 140  # characters
_NOISE_SCALES = (0.4, 1.0)

_Spoken = tuple[Tensor, Tensor]
"""Spectrogram `[F, T]` and latents `[H, T]` of a sentence."""


def teach_posterior_encoder(model: SmallVits, texts: Sequence[str], *, steps: int = _STEPS, seed: int = 0) -> None:
    """Train the posterior encoder on what the model itself says, whose latents are known; all else stays as it is.

    The loss is the negative log-likelihood of the latents. Trained jointly from random weights, the posterior encoder
    would send the decoder latents that mean nothing, and the decoder would forget pitch. Four minutes of one core.

    Args:
        model: Speaks; is left in eval mode.
        texts: Sentences to say.
        steps: Optimizer steps of 8 cuts of 96 frames; a new sentence is said every second step.
        seed: Of sentences, speakers, noise and cuts.
    """
    torch.manual_seed(seed)
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(model.eval().posterior_encoder.parameters(), _RATE, betas=(0.8, 0.99))
    speech = _speech(model, [text for text in texts if len(text) < _LONGEST], chance)
    spoken = deque(itertools.islice(speech, _FEWEST), maxlen=_KEPT)
    for step in range(steps):
        if step % 2:
            spoken.append(next(speech))
        if step >= 0.6 * steps:
            optimizer.param_groups[0]["lr"] = _LAST_RATE
        cuts = [_cut(*sentence, chance) for sentence in chance.sample(spoken, _BATCH_SIZE)]
        spectrograms, latents = (torch.stack(part) for part in zip(*cuts, strict=True))
        speakers = model.emb_g(torch.randint(model.emb_g.num_embeddings, (_BATCH_SIZE,))).unsqueeze(-1)
        _, mean, log_scale, _ = model.posterior_encoder(spectrograms, torch.full((_BATCH_SIZE,), _FRAMES), g=speakers)
        loss = (log_scale + 0.5 * (latents - mean).square() * torch.exp(-2 * log_scale)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.posterior_encoder.parameters(), 5.0)
        optimizer.step()


def _speech(model: SmallVits, texts: Sequence[str], chance: random.Random) -> Iterator[_Spoken]:
    """Say sentences of at least a cut, without end; by any speaker, and as lively as chance has it."""
    given = model.inference_noise_scale
    while True:
        ids = torch.tensor([model.tokenizer.text_to_ids(chance.choice(texts))])
        speaker = torch.tensor([chance.randrange(model.emb_g.num_embeddings)])
        model.inference_noise_scale = chance.uniform(*_NOISE_SCALES)
        with torch.no_grad():
            said = model.inference(ids, {"x_lengths": torch.tensor([ids.shape[1]]), "speaker_ids": speaker,
                                         "d_vectors": None, "language_ids": None, "durations": None})  # fmt: skip
        model.inference_noise_scale = given
        spectrogram = spectrogram_for(model, said["model_outputs"][0, 0], model.config.audio.sample_rate)[0]
        length = min(spectrogram.shape[-1], said["z"].shape[-1])
        if length >= _FRAMES:
            yield spectrogram[:, :length], said["z"][0, :, :length]


def _cut(spectrogram: Tensor, latents: Tensor, chance: random.Random) -> _Spoken:
    start = chance.randrange(spectrogram.shape[-1] - _FRAMES + 1)
    return spectrogram[:, start : start + _FRAMES], latents[:, start : start + _FRAMES]

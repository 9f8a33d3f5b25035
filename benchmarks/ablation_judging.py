"""Scores of the ablation's runs by three speaker encoders: two of them train arms, and one trains none."""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import soundfile
import torch
from torch import Tensor
from torch.nn.functional import l1_loss
from TTS.utils.audio.torch_transforms import wav_to_mel

from benchmarks.ablation_training import ENCODERS, model_config
from benchmarks.processes import in_processes
from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.coqui.vits_audio import convert_voice, reconstruct, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.demo.small_vits import SmallVits
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, verify
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing

INDEPENDENT = "campplus"
JUDGES = (*ENCODERS, INDEPENDENT)
WAYS = ("reconstruction", "conversion")


@dataclass(frozen=True)
class Bench:
    """The three judges as they were published, and what they embedded already: real speech, once for all models."""

    judges: Mapping[str, SegmentEncoder]
    memory: dict[Path, EmbeddedRecording]

    @classmethod
    @functools.cache
    def of_this_process(cls) -> Self:
        """Return the same bench on every call in a process."""
        judges = {name: SegmentEncoder(build_encoder(name)) for name in JUDGES}
        for encoder in judges.values():
            FrozenPolicy().apply(encoder)
        return cls(judges, {})


def _recording(sample: Sample) -> Recording:
    return Recording(sample["audio_unique_name"], Path(sample["audio_file"]), sample["speaker_name"])


def _mel(model: SmallVits, waveform: Tensor) -> Tensor:
    audio = model.config.audio
    mel: Tensor = wav_to_mel(
        waveform[None, None], audio.fft_size, audio.num_mels, audio.sample_rate, audio.hop_length, audio.win_length,
        audio.mel_fmin, audio.mel_fmax, center=False,
    )  # fmt: skip
    return mel


def _synthesise(model: SmallVits, corpus: Corpus, folder: Path) -> tuple[dict[str, list[SyntheticRecording]], float]:
    """Reconstruct each held-out recording's beginning, and convert it to the next speaker; measure the mel loss."""
    audio, speakers, mel_losses = model.config.audio, corpus.speakers, []
    made: dict[str, list[SyntheticRecording]] = {way: [] for way in WAYS}
    for sample in corpus.held_out:
        waveform = load_beginning(sample)
        spec = spectrogram_for(model, waveform, audio.sample_rate)
        own = sample["speaker_name"]
        other = speakers[(speakers.index(own) + 1) % len(speakers)]
        for way, speaker in zip(WAYS, (own, other), strict=True):
            source = speaker_conditioning(model, own)
            if way == "reconstruction":
                synthetic = reconstruct(model, spec, source)
            else:
                synthetic = convert_voice(model, spec, source, speaker_conditioning(model, other))
            file = folder / way / f"{speaker}-{Path(sample['audio_file']).stem}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, synthetic.clamp(-1, 1).numpy(), audio.sample_rate)
            reference = sample["audio_unique_name"] if way == "reconstruction" else None
            made[way].append(SyntheticRecording(f"{way}/{file.stem}", file, speaker, reference=reference))
            if way == "reconstruction":
                length = min(len(synthetic), len(waveform))
                mel_losses.append(float(l1_loss(_mel(model, synthetic[:length]), _mel(model, waveform[:length]))))
    return made, sum(mel_losses) / len(mel_losses)


def _model_of(weights: Path, corpus: Corpus, folder: Path) -> SmallVits:
    model = SmallVits(model_config(corpus, folder))
    state = torch.load(weights, map_location="cpu", weights_only=True)["model"]
    model.load_state_dict({name: value for name, value in state.items() if "speaker_encoder" not in name})
    return model.eval()


@torch.inference_mode()
def judge_model(weights: Path, out: Path, corpus: Corpus) -> None:
    """Score one model by all judges, and write `judged.json` to `out`."""
    torch.set_num_threads(1)
    bench = Bench.of_this_process()
    made, mel_loss = _synthesise(_model_of(weights, corpus, out), corpus, out / "audio")
    real = [_recording(sample) for sample in (*corpus.held_out, *corpus.train)]
    found: dict[str, Any] = {"mel_loss": mel_loss}
    for way, synthetic in made.items():
        evaluation_set = EvaluationSet(f"{out.name} {way}", {}, real, synthetic)
        verification = verify(evaluation_set, bench.judges, resamples=99, memory=bench.memory)
        found[way] = {alias: asdict(scores) for alias, scores in verification.scores.items()}
    with replacing(out / "judged.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")


def judge_all(corpus: Corpus, folder: Path, jobs: int) -> None:
    """Score the start and every run without scores, `jobs` at a time; shows a progress bar."""
    wanted = [(folder / "start.pth", folder / "start")]
    wanted += [(file.with_name("model.pth"), file.parent) for file in sorted(folder.glob("runs/*/run.json"))]
    missing = [(weights, out) for weights, out in wanted if not (out / "judged.json").is_file()]
    in_processes(judge_model, [(weights, out, corpus) for weights, out in missing], jobs, "judging")

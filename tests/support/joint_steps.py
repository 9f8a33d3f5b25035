"""Ten training steps of one of several processes, on its share of a batch: `python joint_steps.py RANK COUNT FOLDER`.

Every random number is drawn for the whole batch from the step's seed, and cut to the items of the process, so that
several processes can be compared with one that has all of them. `jobs.json` in the folder names what to train; the
parameters go to `JOB-RANK-of-COUNT.pt`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from quick_vits import QuickVits
from tiny_vits import PLAIN, SIZES
from torch.overrides import TorchFunctionMode
from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.vits_config import VitsArgs

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.vits_batch import keep_lengths
from coqui_scl_plugin.demo import corpus_files

ITEMS = 4
STEPS = 10
_MOST_FRAMES = 4000


class WholeDraws(TorchFunctionMode):
    """Draw for the whole batch, and keep the rows from `first` on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first
        self.generator = torch.Generator()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randn_like:
            like = args[0]
            whole = torch.randn(ITEMS, *like.shape[1:-1], _MOST_FRAMES, generator=self.generator)
            return whole[self.first : self.first + len(like), ..., : like.shape[-1]]
        if func is torch.rand:
            rows = args[0][0] if isinstance(args[0], list | tuple) else args[0]
            return torch.rand(ITEMS, generator=self.generator)[self.first : self.first + rows]
        return func(*args, **(kwargs or {}))


def samples() -> list[dict[str, Any]]:
    """Return recordings of four speakers, one each, of unequal length."""
    loaded = corpus_files.load_samples(corpus_files.BUNDLED)
    by_speaker = {sample["speaker_name"]: sample for sample in loaded}
    return [dict(by_speaker[name]) for name in sorted(by_speaker)][:ITEMS]


def share_of(batch: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Return some items of a batch, padded to the longest of them as Coqui's loader does."""
    share = {k: v[rows] if isinstance(v, list | torch.Tensor) and len(v) == ITEMS else v for k, v in batch.items()}
    frames, hop = int(share["spec_lens"].max()), batch["waveform"].shape[-1] // batch["spec"].shape[-1]
    share["tokens"] = share["tokens"][:, : int(share["token_lens"].max())]
    for name, length in (("spec", frames), ("mel", frames), ("waveform", frames * hop)):
        share[name] = share[name][..., :length]
    share["waveform_rel_lens"] = share["spec_lens"] / frames
    return keep_lengths(share)


def steps_of(job: dict[str, Any], rank: int, count: int) -> dict[str, torch.Tensor]:
    """Train, and return the parameters."""
    own = samples()
    config = SclVitsConfig(
        model_args=VitsArgs(**SIZES),
        audio=BaseAudioConfig(sample_rate=16_000),
        datasets=[corpus_files.dataset_config(corpus_files.BUNDLED)],
        speakers=[sample["speaker_name"] for sample in own],
        text_cleaner="basic_cleaners",
        optimizer=job["optimizer"],
        optimizer_params={},
        lr_gen=job["lr"],
        lr_disc=job["lr"],
    )
    config.from_dict({"scl": PLAIN | job["scl"]})
    torch.manual_seed(1)
    model = QuickVits(config)
    criteria, optimizers = model.get_criterion(), model.get_optimizer()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for module in model.modules():
        if isinstance(getattr(module, "p_dropout", None), float):
            module.p_dropout = 0.0
    loader = model.get_data_loader(model.config, is_eval=True, samples=own)
    batch = model.format_batch_on_device(
        model.format_batch(loader.dataset.collate_fn([loader.dataset[item] for item in range(ITEMS)]))
    )
    bounds = [0, ITEMS] if count == 1 else [0, job.get("first", ITEMS // 2), ITEMS]
    rows = slice(bounds[rank], bounds[rank + 1])
    batch = share_of(batch, rows)
    draws = WholeDraws(rows.start)
    for step in range(STEPS):
        model.training_run.step = step
        draws.generator.manual_seed(step)
        for turn, (criterion, optimizer) in enumerate(zip(criteria, optimizers, strict=True)):
            with draws:
                _, losses = model.train_step(batch, criterion, turn)
            if job["averages"]:
                model.before_backward_pass(losses, optimizers)
            losses["loss"].backward()
            held = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(held, job["clip"])
            optimizer.step()
            model.zero_grad(set_to_none=True)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def main() -> None:
    rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    for name, job in json.loads((folder / "jobs.json").read_text()).items():
        torch.save(steps_of(job, rank, count), folder / f"{name}-{rank}-of-{count}.pt")
    if count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

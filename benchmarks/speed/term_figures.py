"""Figures of the term alone: against stock's, by shape, by encoder, by ensemble and by number of speakers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.speed.memory import KeptBytes
from benchmarks.speed.models import (
    COQUIS_SLICE,
    ENCODERS,
    Section,
    Slices,
    encoder,
    hold_corpus,
    scl_model,
    term_of,
    training_batch,
)
from benchmarks.speed.results import CannotMeasureError, Row
from benchmarks.speed.terms import OurTerm, StockTerm, our_term, stock_term
from benchmarks.speed.timing import Effort
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.lean_plan import device_refusal_of_bfloat16
from coqui_scl_plugin.references.recordings import Recording

_BASE = Slices()
_SHAPES = {
    "16 kHz": Slices(rate=16_000),
    "24 kHz": Slices(rate=24_000),
    "16,384 samples": Slices(samples=16_384),
    "batch 32": Slices(batch=32),
}
_TOGETHER = ("ge2e", "campplus", "dvector")
_SPEAKERS = (10, 1_000, 100_000)


def _mebibytes(term: OurTerm | StockTerm) -> float:
    kept = KeptBytes(term.model)
    with kept.counted():
        term()
    return kept.mebibytes


def _listening(*names: str, **section: Any) -> Section:
    """Return a section with these encoders that hears Coqui's slice."""
    return {**COQUIS_SLICE, "encoders": [encoder(name) for name in names], **section}


# --- against stock ----------------------------------------------------------------------------------------------------


def against_stock(effort: Effort) -> list[Row]:
    """Compare the term with Coqui's ResNet, as a section without further keys builds it, with stock's."""
    sections = {
        "cached references": _listening("resnet"),
        "segment references": _listening("resnet", reference={"source": "segment"}),
    }
    rows = _compared(effort, sections, _BASE)
    if effort.threads > 1 or effort.cpu_time:
        for case, shape in _SHAPES.items():
            found = _compared(effort.at_most(3), {"cached references": sections["cached references"]}, shape)
            rows += [{**row, "case": f"{row['case']}, {case}"} for row in found]
    return rows


def in_bfloat16(effort: Effort) -> list[Row]:
    """Compare the term with Coqui's ResNet in bfloat16 with stock's, which is in float32.

    Raises:
        CannotMeasureError: this machine cannot compute in it.
    """
    if refusal := device_refusal_of_bfloat16():
        raise CannotMeasureError(refusal)
    section = {**COQUIS_SLICE, "encoders": [{**encoder("resnet"), "dtype": "bfloat16"}]}
    return _compared(effort, {"cached references": section}, _BASE)


def _compared(effort: Effort, sections: Mapping[str, Section], shape: Slices) -> list[Row]:
    ours = {case: our_term(section, shape) for case, section in sections.items()}
    stock = stock_term(shape)
    times = effort.alternate({"stock": stock, **ours})
    kept_by_stock = _mebibytes(stock)
    rows = []
    for case, term in ours.items():
        kept = _mebibytes(term)
        rows.append({
            "case": case, "ms": times.milliseconds(case), "of_stock": times.ratio(case, "stock"), "mib": kept,
            "mib_of_stock": kept / kept_by_stock,
        })  # fmt: skip
    return [*rows, {"case": "stock", "ms": times.milliseconds("stock"), "mib": kept_by_stock}]


# --- by encoder -------------------------------------------------------------------------------------------------------


def by_encoder(effort: Effort) -> list[Row]:
    """Compare the term with each encoder, on Coqui's slice with cached references, with that of Coqui's ResNet."""
    terms = {name: our_term(_listening(name), _BASE) for name in ENCODERS}
    times = effort.alternate(terms)
    return [
        {
            "case": name, "ms": times.milliseconds(name), "of_resnet": times.ratio(name, "resnet"),
            "mib": _mebibytes(term),
        }
        for name, term in terms.items()
    ]  # fmt: skip


def ensembles(effort: Effort) -> list[Row]:
    """Compare ensembles with the sum of their members, each alone, on Coqui's slice and through the default window."""
    rows = []
    for path, build in (("Coqui's slice", _on_slice), ("default window", _on_window)):
        alone = {name: build([name]) for name in _TOGETHER}
        together = {count: build(_TOGETHER[:count]) for count in (2, 3)}
        times = effort.alternate({**alone, **{str(count): term for count, term in together.items()}})
        rows += [
            {
                "case": f"{count}, {path}", "ms": times.milliseconds(str(count)),
                "of_the_sum": times.ratio(str(count), *_TOGETHER[:count]),
            }
            for count in together
        ]  # fmt: skip
    return rows


def _on_slice(names: Sequence[str]) -> OurTerm:
    return our_term(_listening(*names), _BASE)


def _on_window(names: Sequence[str]) -> OurTerm:
    """Return the term with the window's own pass through the decoder, from the latents of a real batch."""
    model = hold_corpus(scl_model({"encoders": [encoder(name) for name in names]}))
    batch = training_batch(model, 4)
    conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
    torch.manual_seed(0)
    with torch.no_grad():
        inputs = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
        outputs = model.forward(*inputs, aux_input=conditioning)
    return OurTerm(model, batch, {name: value for name, value in outputs.items() if torch.is_tensor(value)}, "z")


# --- by number of speakers --------------------------------------------------------------------------------------------


class _NoPass(SpeakerEncoder):
    """An encoder that costs nothing, so that what is beyond the encoder stands alone: the first samples, scaled."""

    sample_rate, embedding_dim, min_samples = 16_000, 256, 256

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`: `[B, 256]`."""
        return normalize(waveform[:, : self.embedding_dim] + 1e-3, dim=-1)


def by_speakers(effort: Effort) -> list[Row]:
    """Compare `angular_margin` over the centroids of many speakers with `cosine`, beyond the encoder."""
    margin = {"name": "angular_margin", "params": {"prototypes": "centroid"}}
    rows = []
    for count in _SPEAKERS:
        recordings = [Recording(f"recording {n}", Path(f"{n}"), f"speaker {n}") for n in range(count)]
        shape = Slices(rate=16_000)
        terms = {
            name: our_term(_listening("ge2e", loss=loss), shape, recordings)
            for name, loss in (("margin", margin), ("cosine", {"name": "cosine"}))
        }
        for term in terms.values():
            term_of(term.model).encoders["ge2e"].encoder = _NoPass()
        times = effort.alternate(terms)
        rows.append({
            "case": f"{count:,} speakers", "excess_ms": times.excess("margin", "cosine"),
            "mib": _mebibytes(terms["margin"]), "cosine_ms": times.milliseconds("cosine"),
        })  # fmt: skip
    return rows

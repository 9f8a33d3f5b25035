"""`scl.restore.match_rows`: speakers, languages and characters keep their rows in a run that has more of them."""

import json
from pathlib import Path

import pytest
import torch
from trainer import TrainerArgs
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.configs.shared_configs import BaseTTSConfig, CharactersConfig
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.datasets import load_tts_samples
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.coqui.match_rows import carried_table
from coqui_scl_plugin.errors import ConfigError, PreflightError

TABLES = ("emb_g.weight", "emb_l.weight", "text_encoder.emb.weight")
MATCH = {"restore": {"match_rows": True}}
ALL, FEWER = "abcdefghijklmnopqrstuvwxyz", "bdefghijklmnopqrstuvwxyz"
TEXT = "the first words of our story"
pytestmark = pytest.mark.usefixtures("one_thread")


def alphabet(letters):
    fields = {"characters": letters, "punctuations": " .,", "pad": "<PAD>", "eos": "", "bos": "", "blank": "<BLNK>"}
    return CharactersConfig(characters_class="TTS.tts.utils.text.characters.Graphemes", **fields)


@pytest.fixture(scope="module")
def real(libri10):
    """One recording of each of libri10's first five speakers, in their order."""
    own = BaseDatasetConfig(formatter="coqui", path=str(libri10), meta_file_train="metadata.csv", language="en")
    samples, _ = load_tts_samples(BaseTTSConfig(datasets=[own]), eval_split=False)
    speakers = sorted({sample["speaker_name"] for sample in samples})[:5]
    return {name: [s for s in samples if s["speaker_name"] == name][:1] for name in speakers}


@pytest.fixture
def make_run(tiny_config, make_trainer, real, tmp_path_factory):
    """Coqui's trainer on real speech of these speakers."""

    def make(names, scl=None, *, languages=("en",), letters=ALL, args=None, start=None, going_on=None):
        fields = {
            "speakers": list(names),
            "languages": list(languages),
            "characters": alphabet(letters),
            "max_audio_len": 20 * 16_000,
            "save_checkpoints": True,
            "save_step": 1,
            "batch_size": 2,
            "output_path": str(tmp_path_factory.mktemp("runs")),
        }
        config = tiny_config(scl, args={"use_language_embedding": True} | (args or {}), **fields)
        chosen = [dict(sample) for name in names for sample in real[name]]
        given = TrainerArgs(restore_path=str(start or ""), continue_path=str(going_on or ""))
        return make_trainer(SclVits(config), train_samples=chosen, eval_samples=[], args=given)

    return make


def checkpoint_of(trainer):
    return max(trainer.output_path.glob("checkpoint_*.pth"), key=lambda path: int(path.stem.partition("_")[2]))


def stock(checkpoint):
    """Load a checkpoint into Coqui's own Vits, as Coqui's commands do."""
    config = VitsConfig()
    config.from_dict(torch.load(checkpoint, weights_only=True)["config"] | {"model": "vits"})
    model = Vits(config)
    model.load_checkpoint(config, checkpoint, eval=True, strict=True)
    return model


def speech(model, speaker):
    ids = torch.tensor([model.tokenizer.text_to_ids(TEXT, language="en")])
    aux = {"x_lengths": None, "d_vectors": None}
    aux["speaker_ids"] = torch.tensor([model.speaker_manager.name_to_id[speaker]])
    aux["language_ids"] = torch.tensor([model.language_manager.name_to_id["en"]])
    torch.manual_seed(3)
    return model.inference(ids, aux)["model_outputs"]


def rows(state, table, names):
    """The rows of a table by name."""
    return dict(zip(names, state[table], strict=True))


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def four(make_run, real, kept):
    """The checkpoint of a run of four speakers, trained for a few steps, and their names."""
    names = [name for index, name in enumerate(real) if index != 1]
    if not kept:
        trainer = make_run(names, letters=FEWER)
        trainer.fit()
        assert trainer.total_steps_done > 1
        kept["start"] = checkpoint_of(trainer)
    return kept["start"], names


def test_a_speaker_is_added_to_a_checkpoint_of_four(four, make_run, real, capsys):
    start, names = four
    before = torch.load(start, weights_only=True)["model"]
    started = stock(start)
    capsys.readouterr()
    trainer = make_run(real, MATCH, languages=["de", "en"], start=start)
    told = " ".join(capsys.readouterr().out.split())
    assert f"by name: speakers 4 of 5 carried, new at their mean: {list(real)[1]!r}; languages 1 of 2 carried" in told
    after = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    old, new = rows(before, TABLES[0], names), rows(after, TABLES[0], real)
    added = list(real)[1]
    assert all(torch.equal(new[name], old[name]) for name in names)
    assert list(new) != [*names, added]  # the order shifts
    assert torch.allclose(new[added], torch.stack(list(old.values())).mean(0), atol=1e-7)
    assert torch.equal(after[TABLES[1]], before[TABLES[1]].repeat(2, 1))  # the mean of one row is that row
    characters = [trainer.model.tokenizer.characters.vocab, started.tokenizer.characters.vocab]
    new, old = rows(after, TABLES[2], characters[0]), rows(before, TABLES[2], characters[1])
    assert new.keys() - old.keys() == {"a", "c"}
    assert all(torch.equal(new[letter], old[letter]) for letter in old)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items() if name in before.keys() - {*TABLES})
    trainer.model.eval()
    for name in names:
        assert torch.equal(speech(trainer.model, name), speech(started, name))
    assert not torch.equal(speech(started, names[0]), speech(started, names[1]))

    trainer.model.train()
    trainer.fit()
    finished = stock(checkpoint_of(trainer))
    assert speech(finished, added).isfinite().all()
    assert not torch.equal(finished.emb_g.weight, after[TABLES[0]])
    report = json.loads((trainer.output_path / "preflight.json").read_text())
    assert {check["id"] for check in report["checks"] if check["status"] != "passed"} == set()
    assert torch.equal(stock(start).emb_g.weight, started.emb_g.weight)

    # the run goes on with its own rows
    going_on = make_run(real, MATCH, languages=["de", "en"], going_on=trainer.output_path)
    assert torch.equal(going_on.model.emb_g.weight, finished.emb_g.weight)
    assert going_on.model.parts.restored.matches_rows is False


def test_rows_go_to_their_speakers_also_where_coqui_loads_in_part(four, make_run):
    """A table of the same size, which Coqui takes row by row in its second attempt, after the first one failed."""
    start, names = four
    skip = {"preflight": {"skip": ["restored-weights", "tables"]}}
    other = {"periods_multi_period_discriminator": [2]}
    before = rows(torch.load(start, weights_only=True)["model"], TABLES[0], names)
    for scl, matched in ((MATCH, True), ({}, False)):
        trainer = make_run(names[::-1], skip | scl, letters=FEWER, args=other, start=start)
        after = rows(trainer.model.state_dict(), TABLES[0], names[::-1])
        assert all(torch.equal(after[name], before[name]) for name in names) is matched
        assert trainer.model.parts.carried == {}


def test_rows_that_would_go_to_others_are_refused_in_a_script(four, make_run):
    start, names = four
    with pytest.raises(PreflightError, match="4 of 4 would go to other speakers") as caught:
        make_run(names[::-1], letters=FEWER, start=start)
    assert "(check 'tables')" in str(caught.value)


def test_a_checkpoint_whose_speakers_are_unknown_is_refused(four, make_run, tmp_path, real):
    start, _ = four
    unnamed = torch.load(start, weights_only=True)
    del unnamed["config"]
    torch.save(unnamed, tmp_path / "unnamed.pth")
    with pytest.raises(PreflightError, match=r"the speakers of .*unnamed\.pth are unknown"):
        make_run(real, MATCH, letters=FEWER, start=tmp_path / "unnamed.pth")


def test_a_script_hears_of_a_hostile_checkpoint_before_coqui_reads_it(tiny_config, make_trainer, tmp_path):
    path, config = tmp_path / "hostile.pth", tiny_config()
    for content, words in (
        ({"model": [1]}, "its 'model' is of type list"),
        ({"model": {"flow.flows.0.pre.bias": torch.zeros(2, 16)}, "step": 1, "epoch": 0}, "has the size"),
    ):
        torch.save(content, path)
        with pytest.raises(ConfigError, match=words):
            make_trainer(SclVits(config), args=TrainerArgs(restore_path=str(path)))
        assert list(Path(config.output_path).iterdir()) == []


def test_new_rows_are_the_mean_of_those_that_are_carried():
    old = torch.tensor([[1.0, 0.0], [3.0, 0.0], [8.0, 6.0]])
    table = carried_table(old, ["a", "b", "gone"], ["x", "b", "a", "y"])
    assert table.weight.tolist() == [[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    assert table.new == ["x", "y"]
    assert table.described("speaker") == "speakers 2 of 4 carried, new at their mean: 'x', 'y'"
    strangers = carried_table(old.half(), ["a", "b", "gone"], ["x"])
    assert (strangers.weight.tolist(), strangers.weight.dtype) == ([[4.0, 2.0]], torch.float16)
    twice = carried_table(old, ["a", "b", "a"], ["a"])  # Coqui's vocabularies mean the last one
    assert twice.weight.tolist() == [[8.0, 6.0]]

"""The checkpoint that a run starts from: what is read of it, which weights arrive, and to whom its rows go."""

import dataclasses
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from made_up_run import sound_facts
from torch import nn

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.restored import check_usable, read_restored
from coqui_scl_plugin.errors import ConfigError, RestoreError
from coqui_scl_plugin.preflight import restored
from coqui_scl_plugin.preflight.facts import Restored, RunFacts
from coqui_scl_plugin.preflight.report import Finding
from coqui_scl_plugin.preflight.restored import CHARACTERS, LANGUAGES, SPEAKERS

WEIGHTS = {"text_encoder.emb.weight": torch.zeros(3, 2), "flow.a": torch.ones(2, 3)}
LETTERS = ["a", "b", "c"]
PLAIN_LETTERS = {"characters": "".join(LETTERS), "punctuations": "", "pad": "", "eos": "", "bos": "", "blank": ""}


def facts(before: Restored | None = None, **changes: Any) -> RunFacts:
    """Return a sound run that starts from this checkpoint."""
    return sound_facts(restored=before, **changes)


def said(findings: list[Finding], *, is_error: bool) -> str:
    (finding,) = findings
    assert finding.is_error == is_error
    return f"{finding.found} {finding.change}"


def checkpoint(path: Path, **changes: Any) -> str:
    """Write a small checkpoint as Coqui's trainer does; a change to ... leaves out a key."""
    whole = {"model": WEIGHTS, "step": 1, "epoch": 0, "optimizer": [], "config": {"model": "vits"}} | changes
    torch.save({key: value for key, value in whole.items() if value is not ...}, path)
    return str(path)


# --- modules ----------------------------------------------------------------------------------------------------------


MODEL = {
    "text_encoder.emb.weight": (9, 2),
    "text_encoder.a": (10, 10),
    "flow.a": (2, 5),
    "flow.b": (5,),
    "disc.a": (9,),
}


def weights_said(sizes: dict[str, Any], *, is_error: bool, **more: Any) -> str:
    run = facts(Restored("a.pth", MODEL | sizes, **more), model_sizes=MODEL)
    return said(restored.check_restored_weights(run), is_error=is_error)


def test_a_checkpoint_that_fits_is_not_spoken_of() -> None:
    assert restored.check_restored_weights(facts(model_sizes=MODEL)) == []
    assert restored.check_restored_weights(facts(Restored("a.pth", MODEL | {"more": (5,)}), model_sizes=MODEL)) == []


def test_a_module_that_is_mostly_lost_is_an_error_although_most_weights_fit() -> None:
    text = weights_said({"flow.a": (2, 4), "flow.b": (4,)}, is_error=True)
    assert "flow 100.0% (flow.a: [2, 4] in the checkpoint, [2, 5] in the model)" in text
    assert "87.0% are in a.pth" in text
    assert "text_encoder" not in text


def test_a_module_that_is_lost_in_part_is_a_warning() -> None:
    text = weights_said({"flow.b": (6,)}, is_error=False)
    assert "flow 33.3% (flow.b: [6] in the checkpoint, [5] in the model)" in text
    assert "flow 66.7% (flow.a" in weights_said({"flow.a": (9, 9)}, is_error=True)


def test_a_module_that_the_checkpoint_lacks() -> None:
    sizes = {name: size for name, size in MODEL.items() if not name.startswith("flow.")}
    run = facts(Restored("a.pth", sizes), model_sizes=MODEL)
    assert "flow 100.0% (flow.a: not in the checkpoint)" in said(restored.check_restored_weights(run), is_error=True)


def test_a_discriminator_of_another_architecture() -> None:
    assert "disc 100.0% (disc.a: [8]" in weights_said({"disc.a": (8,)}, is_error=True)


def test_a_checkpoint_without_discriminator_is_left_to_its_own_check() -> None:
    run = facts(Restored("a.pth", {n: s for n, s in MODEL.items() if n != "disc.a"}), model_sizes=MODEL)
    assert restored.check_restored_weights(run) == []
    assert "a.pth has no discriminator weights" in said(restored.check_discriminator(run), is_error=True)
    assert restored.check_discriminator(facts(Restored("a.pth", MODEL), model_sizes=MODEL)) == []


def test_a_table_of_another_width_is_no_error_by_itself() -> None:
    assert "text_encoder.emb 100.0%" in weights_said({CHARACTERS: (9, 3)}, is_error=False)


def test_weights_that_the_config_wants_anew() -> None:
    run = facts(Restored("a.pth", {"disc.a": (9,), "flow.a": (2, 5), "flow.b": (5,)}), model_sizes=MODEL)
    assert "text_encoder 100.0%" in said(restored.check_restored_weights(run), is_error=True)
    run.config.model_args.reinit_text_encoder = True
    assert restored.check_restored_weights(run) == []
    lost = facts(Restored("a.pth", {name: s for name, s in MODEL.items() if name != "flow.a"}), model_sizes=MODEL)
    assert len(restored.check_restored_weights(lost)) == 1
    lost.config.reinit_layers = ["flow.a"]
    assert restored.check_restored_weights(lost) == []


def test_the_keys_that_differ_are_named() -> None:
    before = {"model_args": {"hidden_channels": 96, "use_sdp": True, "noise_scale": 9.0, "periods": [1]}}
    text = weights_said({"flow.a": (1, 1)}, is_error=True, config=before)
    assert "(hidden_channels = 96, here 192)" in text
    assert (
        "model_args" not in weights_said({"flow.a": (1, 1)}, is_error=True, config={"model_args": 5}).partition("(")[0]
    )


def test_a_damaged_file() -> None:
    run = facts(Restored("a.pth", MODEL, damaged="a/data/7"), model_sizes=MODEL)
    assert "checksum of its part 'a/data/7'" in said(restored.check_restored_weights(run), is_error=True)


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(table: str, before: list[str] | None, now: list[str] | None, **more: Any) -> list[Finding]:
    """Judge a table of width 2 by the names of its rows; three rows where they are unknown."""
    sizes = [{table: (3 if names is None else len(names), 2)} for names in (before, now)]
    rows = [{} if names is None else {table: names} for names in (before, now)]
    run = facts(Restored("a.pth", sizes[0], rows=rows[0], **more), model_sizes=sizes[1], rows=rows[1])
    return restored.check_tables(run)


@pytest.mark.parametrize(("table", "kind"), restored.TABLES.items())
def test_rows_that_would_go_to_others(table: str, kind: str) -> None:
    text = said(tables(table, ["a", "b", "c"], ["a", "x", "b"]), is_error=True)
    assert f"The {kind} table of a.pth" in text
    assert f"2 of 3 would go to other {kind}s" in text
    assert "the row of 'b' to 'x', the row of 'c' to 'b'." in text
    assert "does not know 'x'" in text
    assert "scl.restore.match_rows" in text


@pytest.mark.parametrize(("table", "kind"), restored.TABLES.items())
def test_a_table_of_another_size_starts_from_random_numbers(table: str, kind: str) -> None:
    text = said(tables(table, ["a", "b", "gone"], ["a", "new", "b", "c"]), is_error=False)
    assert f"The {kind} table of a.pth has 3 rows, the model's has 4" in text
    assert "random numbers" in text
    assert f"2 of 4 {kind}s are known to the checkpoint (new: 'c', 'new'; no longer there: 'gone')" in text
    assert "scl.restore.match_rows" in text


def test_names_in_the_same_order_are_not_spoken_of() -> None:
    for table in restored.TABLES:
        assert tables(table, ["b", "a"], ["b", "a"]) == []
        assert tables(table, None, ["b", "a", "c"]) == tables(table, ["b", "a", "c"], None) == []


def test_unknown_names_are_said_where_sizes_differ() -> None:
    assert "rows of the checkpoint stand for is unknown" in said(tables(SPEAKERS, None, ["a"]), is_error=False)
    assert "rows of the model stand for is unknown" in said(tables(SPEAKERS, ["a"], None), is_error=False)


def test_with_matched_rows_only_what_cannot_be_carried_is_spoken_of() -> None:
    assert tables(SPEAKERS, ["a", "b"], ["x", "a", "b"], matches_rows=True) == []
    assert tables(CHARACTERS, ["a", "b"], ["b", "a"], matches_rows=True) == []
    text = said(tables(SPEAKERS, None, ["a", "b", "c"], matches_rows=True), is_error=True)
    assert "the speakers of a.pth are unknown" in text
    assert "beside" in text
    assert "None of the languages" in said(tables(LANGUAGES, ["en"], ["de", "fr"], matches_rows=True), is_error=False)


def test_rows_of_another_width_cannot_be_carried() -> None:
    sizes = {SPEAKERS: (2, 4)}, {SPEAKERS: (2, 8)}
    run = facts(Restored("a.pth", sizes[0], matches_rows=True, rows={SPEAKERS: ["a", "b"]}), model_sizes=sizes[1])
    text = said(restored.check_tables(run), is_error=True)
    assert "the speaker table of a.pth is 4 wide, the model's 8. Set model_args.speaker_embedding_channels to 4" in text
    assert restored.check_restored_weights(run) == []
    by_position = dataclasses.replace(run, restored=Restored("a.pth", sizes[0]))
    assert restored.check_tables(by_position) == []
    assert "emb_g 100.0%" in said(restored.check_restored_weights(by_position), is_error=False)


def test_rows_to_match_without_a_checkpoint() -> None:
    run = facts()
    assert restored.check_tables(run) == []
    run.config.scl.restore.match_rows = True
    assert "no effect: the run starts from no checkpoint" in said(restored.check_tables(run), is_error=False)


def test_a_table_that_only_one_of_them_has() -> None:
    run = facts(Restored("a.pth", {SPEAKERS: (2, 4)}, rows={SPEAKERS: ["a", "b"]}), model_sizes={})
    text = said(restored.check_tables(run), is_error=False)
    assert "table of 2 speakers ('a', 'b'), and the model has none" in text
    assert "model_args.use_speaker_embedding to true" in text
    run = facts(Restored("a.pth", {}), model_sizes={LANGUAGES: (2, 4)})
    assert "a.pth has no table of languages (emb_l.weight)" in said(restored.check_tables(run), is_error=False)
    assert restored.check_tables(facts(model_sizes={LANGUAGES: (2, 4)})) == []


def test_long_names_are_cut() -> None:
    text = said(tables(SPEAKERS, ["a" * 5_000, "b"], ["b", "c" * 5_000]), is_error=True)
    assert len(text) < 1_000


# --- the config of the checkpoint -------------------------------------------------------------------------------------


def test_text_and_audio_that_were_read_differently() -> None:
    before = {"add_blank": False, "use_phonemes": False, "audio": {"sample_rate": 16_000, "hop_length": 256}}
    text, audio = restored.check_restored_config(facts(Restored("a.pth", {}, config=before)))
    assert not text.is_error
    assert not audio.is_error
    assert "add_blank = false (here true)." in text.found
    assert "audio.sample_rate = 16000 (here 22050)." in audio.found
    same = SclVitsConfig().to_dict()
    assert restored.check_restored_config(facts(Restored("a.pth", {}, config=same))) == []
    assert restored.check_restored_config(facts(Restored("a.pth", {}, config={"audio": 5, "add_blank": None}))) == []


def test_another_padding_character() -> None:
    run = facts(Restored("a.pth", {}, config={"characters": {"pad": "_", "blank": None}}))
    assert restored.check_restored_config(run) == []  # the run's is not known before its model is made
    run.config.from_dict({"characters": PLAIN_LETTERS | {"pad": "<PAD>", "blank": "<BLNK>"}})
    text = said(restored.check_restored_config(run), is_error=False)
    assert "characters.pad = '_' (here '<PAD>')." in text


# --- the optimizers ---------------------------------------------------------------------------------------------------


def optimizer(*, steps: int = 0) -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.zeros(2))
    made = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.zeros_like(parameter)
    for _ in range(steps):
        made.step()
    return made


def test_an_optimizer_whose_state_was_not_restored() -> None:
    before = Restored("run/checkpoint_5.pth", {}, continues_optimizers=True)
    run = facts(before, optimizers={"discriminator": optimizer(steps=1), "generator": optimizer()})
    text = said(restored.check_optimizer_state(run), is_error=True)
    assert "the optimizer of the generator:" in text
    assert "scl.freeze.modules" in text
    assert restored.check_optimizer_state(dataclasses.replace(run, optimizers={"generator": optimizer(steps=1)})) == []
    fine_tuned = dataclasses.replace(run, restored=dataclasses.replace(before, continues_optimizers=False))
    assert restored.check_optimizer_state(fine_tuned) == []


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_by_name_and_size(tmp_path: Path) -> None:
    for state, continues in (({0: {}}, True), ({}, False)):
        optimizers = [{"state": state}]
        path = checkpoint(tmp_path / "a.pth", model=WEIGHTS | {"note": 5}, optimizer=optimizers, config=...)
        expected = Restored(path, {"text_encoder.emb.weight": (3, 2), "flow.a": (2, 3)})
        assert read_restored(path, continues=False) == expected
        assert read_restored(path, continues=True) == dataclasses.replace(expected, continues_optimizers=continues)
    assert read_restored("https://example.org/checkpoint.pth", continues=False) is None
    with pytest.raises(ConfigError, match=r"scl\.restore\.match_rows = true needs a local file"):
        read_restored("https://example.org/checkpoint.pth", continues=False, match_rows=True)


def test_former_names_of_normed_weights_are_those_that_torch_loads_them_under(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.flow = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 1))
    former = {"flow.weight_g": torch.ones(2, 1, 1), "flow.weight_v": torch.ones(2, 2, 1), "flow.bias": torch.ones(2)}
    before = read_restored(checkpoint(tmp_path / "a.pth", model=former), continues=False)
    assert before is not None
    sizes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert restored.check_restored_weights(facts(before, model_sizes=sizes)) == []
    model.load_state_dict(former)


VITS_ROWS = {SPEAKERS: torch.zeros(2, 4), LANGUAGES: torch.zeros(2, 4), CHARACTERS: torch.zeros(3, 2)}


def rows_read(path: Path, config: Any, **sizes: int) -> dict[str, Any]:
    """Read the rows of a checkpoint of two speakers, two languages and three characters."""
    weights = VITS_ROWS | {name: torch.zeros(rows, 2) for name, rows in sizes.items()}
    before = read_restored(checkpoint(path / "a.pth", model=weights, config=config), continues=False)
    assert before is not None
    return dict(before.rows)


def test_rows_are_named_by_the_config_of_the_checkpoint(tmp_path: Path) -> None:
    config = {
        "speakers": ["p2", "p1"],
        "languages": ["pt", "en"],
        "characters": PLAIN_LETTERS | {"characters": "bca", "is_sorted": True},
    }
    assert rows_read(tmp_path, config) == {SPEAKERS: ["p2", "p1"], LANGUAGES: ["pt", "en"], CHARACTERS: LETTERS}
    vits = PLAIN_LETTERS | {"characters_class": "TTS.tts.models.vits.VitsCharacters", "pad": "_", "characters": "a"}
    assert rows_read(tmp_path, {"characters": vits | {"phonemes": ""}})[CHARACTERS] == ["_", "a", "<BLNK>"]


def test_languages_are_those_of_the_data_sets_where_none_is_listed(tmp_path: Path) -> None:
    config = {"datasets": [{"language": "pt"}, {"language": "en"}, {"language": "pt"}]}
    assert rows_read(tmp_path, config)[LANGUAGES] == ["en", "pt"]


def test_rows_are_named_by_files_beside_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "speaker_ids.json").write_text(json.dumps({"p1": 1, "p2": 0}))
    (tmp_path / "language_ids.json").write_text(json.dumps({"en": 0, "pt": 1}))
    assert rows_read(tmp_path, ...) == {SPEAKERS: ["p2", "p1"], LANGUAGES: ["en", "pt"]}
    torch.save({"x": 0, "y": 1}, tmp_path / "other.pth")
    named = {"model_args": {"speakers_file": "/somewhere/else/other.pth"}}
    assert rows_read(tmp_path, named)[SPEAKERS] == ["x", "y"]
    (tmp_path / "config.json").write_text(json.dumps({"speakers": ["c", "d"], "languages": ["de", "fr"]}))
    assert rows_read(tmp_path, ...)[SPEAKERS] == ["c", "d"]
    assert rows_read(tmp_path, named)[SPEAKERS] == ["x", "y"]  # the checkpoint's own config goes first


@pytest.mark.filterwarnings("default")  # as users run it
@pytest.mark.parametrize(
    "config",
    [
        {"speakers": ["one"], "languages": ["en"], "characters": PLAIN_LETTERS | {"characters": "ab"}},
        {"speakers": [1, 2], "languages": {"a": 1}, "characters": "abc", "datasets": 5},
        {"characters": PLAIN_LETTERS | {"characters_class": "os.path.join"}},
        {"characters": PLAIN_LETTERS | {"characters_class": "TTS.nosuch.Characters"}},
        {"model_args": {"speakers_file": "a\0b", "language_ids_file": "."}},
        [1, 2],
        {"speakers": torch.zeros(2), "languages": [torch.zeros(1)], "datasets": [{"language": torch.zeros(2)}]},
        {5: 5, "model_args": {"speakers_file": 10**600}, "characters": {"characters": 10**600}},
    ],
)
def test_names_that_do_not_fit_the_table_are_unknown(
    tmp_path: Path, config: Any, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "speakers.json").write_text(json.dumps({"p1": 5, "p2": 0}))
    (tmp_path / "language_ids.json").write_text("[1, 2]")
    assert rows_read(tmp_path, config) == {}
    assert list(recwarn) == []


# --- hostile files ----------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def _cut(path: Path) -> None:
    checkpoint(path)
    path.write_bytes(path.read_bytes()[:-300])


def _flip(path: Path) -> None:
    checkpoint(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"data.pkl") + 40
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)


def _script(path: Path) -> None:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch.jit is deprecated, its files are not
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "text")


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it is an empty file"),
    "text": (lambda path: path.write_text("hello there"), "it is a text file"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>"), "it is a web page: the download has failed"),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
        "a pointer of Git LFS",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(5_000)), "it is damaged, or of another kind"),
    "a recording": (lambda path: path.write_bytes(b"RIFF\0\0\0\0WAVEfmt "), "it is damaged, or of another kind"),
    "cut": (_cut, "it is cut off or damaged"),
    "flipped": (_flip, r"it is damaged: the checksum of its part 'start/data\.pkl' is wrong"),
    "another archive": (_archive, "a zip archive of something else than weights"),
    "TorchScript": (_script, "it is a TorchScript file"),
    "safetensors": (lambda path: safetensors.torch.save_file(WEIGHTS, path), "it is a safetensors file"),
    "an object": (
        lambda path: torch.save({"model": WEIGHTS, "object": Hostile(path.with_name("made"))}, path),
        r"it holds an object of posix\.mkdir, which takes code to load\. Nothing in it was run",
    ),
    "a list": (lambda path: torch.save([1, 2], path), "its content is of type list instead of a mapping"),
    "weights alone": (lambda path: torch.save(WEIGHTS, path), "it holds weights alone, under no key 'model'"),
    "other keys": (lambda path: torch.save({"state_dict": {}}, path), "no key 'model', but the keys 'state_dict'"),
    "a list of weights": (lambda path: checkpoint(path, model=[1]), "its 'model' is of type list"),
    "no weights": (lambda path: checkpoint(path, model=None), "its 'model' is None"),
    "a number as weights": (lambda path: checkpoint(path, model=5), "its 'model' is of type int"),
    "an empty model": (lambda path: checkpoint(path, model={}), "its 'model' is empty"),
    "numbers as keys": (lambda path: checkpoint(path, model={1: torch.zeros(1)}), "keys that are no names.* such as 1"),
    "no tensors": (lambda path: checkpoint(path, model={"flow.a": 1}), "holds no tensors, but the keys 'flow.a'"),
    "no step": (lambda path: checkpoint(path, step=...), "it lacks the key 'step'"),
    "a step in words": (lambda path: checkpoint(path, step="5"), "its 'step' is of type str instead of a number"),
    "a step of many digits": (lambda path: checkpoint(path, step=10**600), "its 'step' is a number of many digits"),
    "a step that is NaN": (lambda path: checkpoint(path, step=float("nan")), "its 'step' is nan instead of a count"),
    "an epoch before the first": (lambda path: checkpoint(path, epoch=-1), "its 'epoch' is -1 instead of a count"),
    "a key of many digits": (lambda path: checkpoint(path, model={10**600: 1}), "such as a number of many digits"),
    "an epoch of None": (lambda path: checkpoint(path, epoch=None), "its 'epoch' is None instead of a number"),
    "an optimizer's number": (lambda path: checkpoint(path, optimizer=5), "its 'optimizer' is of type int"),
    "optimizers' numbers": (
        lambda path: checkpoint(path, optimizer=[5]),
        "its 'optimizer' has an entry that is of type int",
    ),
    "another model": (
        lambda path: checkpoint(path, model={"encoder.emb.weight": torch.ones(2)}, config={"model": "glow_tts"}),
        "its config says that it is of the model 'glow_tts'",
    ),
    "an encoder": (
        lambda path: torch.save({"model": {"layers.0.lstm.weight_ih_l0": torch.ones(2)}, "step": 5}, path),
        "it is of a speaker encoder",
    ),
    "a vocoder": (
        lambda path: checkpoint(path, model={"model_g.conv.bias": torch.ones(2)}, config=...),
        "it is of a vocoder",
    ),
    "the original VITS": (
        lambda path: checkpoint(path, model={"enc_p.emb.weight": torch.ones(2)}, config=...),
        "a VITS of another project",
    ),
    "a wrapped model": (
        lambda path: checkpoint(path, model={"module.flow.a": torch.ones(2)}),
        r"begin with 'module\.', as a wrapper",
    ),
    "long names": (lambda path: torch.save({"k" * 5_000: 1}, path), "no key 'model'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_checkpoint_is_called_by_its_name(name: str, tmp_path: Path) -> None:
    write, expected = HOSTILE[name]
    path = tmp_path / "start.pth"
    write(path)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_restored(str(path), continues=False)
    text = str(caught.value)
    assert text.startswith(f"--restore_path {path} is not a ")
    assert len(text) - len(str(path)) < 500
    assert "\n" not in text
    assert [file.name for file in tmp_path.iterdir()] == ["start.pth"]


def test_a_flipped_bit_among_the_weights_is_found_by_its_checksum(tmp_path: Path) -> None:
    weights = WEIGHTS | {"flow.a": torch.full((64, 64), 0.125)}
    path = Path(checkpoint(tmp_path / "a.pth", model=weights))
    assert read_restored(str(path), continues=False).damaged is None
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((9,), 0.125).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert "data/" in read_restored(str(path), continues=False).damaged


def test_a_file_without_checksums_is_not_damaged(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = checkpoint(tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_restored(path, continues=False).damaged is None


# --- weights that the model cannot take -------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Linear(2, 3)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.config = SclVitsConfig()


UNUSABLE = {
    "a string": ("text", "flow.weight is of type str instead of a tensor"),
    "None": (None, "flow.weight is None instead of a tensor"),
    "another shape": (torch.zeros(2, 3), r"flow.weight has the size \[2, 3\], and the model's \[3, 2\]"),
    "sparse": (torch.zeros(3, 2).to_sparse(), "flow.weight is a sparse tensor"),
    "complex": (torch.zeros(3, 2, dtype=torch.complex64), "numbers of type torch.complex64 instead of torch.float32"),
    "bytes": (torch.zeros(3, 2, dtype=torch.uint8), "numbers of type torch.uint8 instead of torch.float32"),
    "meta": (torch.zeros(3, 2, device="meta"), "flow.weight has no content"),
    "NaN": (torch.full((3, 2), float("nan")), "flow.weight has 6 of 6 numbers that are not finite"),
    "infinite halves": (torch.full((3, 2), float("inf"), dtype=torch.float16), "6 of 6 numbers that are not finite"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_weights_that_the_model_cannot_take(name: str) -> None:
    value, expected = UNUSABLE[name]
    with pytest.raises(RestoreError, match=f"a.pth: .*{expected}"):
        check_usable(Small(), {"flow.weight": value}, Restored("a.pth", {}))
    small = Small()
    small.config.reinit_layers = ["flow"]
    check_usable(small, {"flow.weight": value}, Restored("a.pth", {}))
    check_usable(Small(), {"elsewhere": value}, Restored("a.pth", {}))


def test_weights_that_the_model_takes_or_leaves_out() -> None:
    for value in (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.float16), torch.full((9, 9), float("nan"))):
        check_usable(Small(), {"flow.weight": value, "count": torch.ones(1)}, Restored("a.pth", {}))

"""A script lists its samples itself; what its metadata lost is found all the same before step 1."""

import shutil
from pathlib import Path

import pytest

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.errors import PreflightError


def test_a_script_whose_table_has_an_unpaired_quote(tiny_config, make_trainer, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(corpus_files.BUNDLED, folder)
    dataset = corpus_files.dataset_config(folder)
    table = folder / dataset.meta_file_train
    header, first, *rest = table.read_text().splitlines()
    file, text, *more = first.split("|")
    table.write_text("\n".join([header, "|".join([file, f'"{text}', *more]), *rest]))
    config = tiny_config(datasets=[dataset])
    with pytest.raises(PreflightError, match=r'unpaired quote \("\) in line 2 .*check .metadata.'):
        make_trainer(SclVits(config))


def test_a_script_with_a_formatter_of_its_own_may_name_any(tiny_config, make_trainer, tmp_path: Path) -> None:
    dataset = corpus_files.dataset_config(tmp_path)
    dataset.formatter = "of my own"
    make_trainer(SclVits(tiny_config(datasets=[dataset])))

"""A data loader of Coqui's that goes on where one recording cannot be loaded, and names it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from coqui_scl_plugin.utils.shown import shortened

LEFT_OUT = "scl_left_out"
"""Key of a batch: why recordings could not be loaded, by name. A batch may hold nothing else."""


_OUT_OF_RANGE = "it is shorter than min_audio_len, or its text is longer than max_text_len"


class Unusable(NamedTuple):
    """In place of an item that could not be loaded."""

    name: str
    reason: str


class UsableItems(Dataset[Any]):
    """Coqui's data set, of which an item that cannot be loaded is an `Unusable`, and no error without a name."""

    def __init__(self, dataset: Any) -> None:
        """Wrap a data set, which has all other attributes."""
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # while this is unpickled in a worker
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any] | Unusable:
        name = str(self.dataset.samples[index]["audio_unique_name"])
        stand_in = self.dataset.rescue_item_idx
        try:
            item: dict[str, Any] = self.dataset[index]
        except AssertionError as error:  # of load_audio, which says no more
            return Unusable(name, f"its samples are not within [-1, 1], or Coqui cannot load it ({_said(error)})")
        except (RuntimeError, OSError, ValueError) as error:
            return Unusable(name, f"Coqui cannot load it ({_said(error)})")
        except IndexError:  # Coqui looked for another recording in its place until there was none
            return Unusable(name, _OUT_OF_RANGE)
        finally:
            rescued, self.dataset.rescue_item_idx = self.dataset.rescue_item_idx != stand_in, stand_in
        if rescued:  # else it would count twice, and under another name
            return Unusable(name, _OUT_OF_RANGE)
        if (channels := len(item["wav"])) != 1:
            return Unusable(item["audio_unique_name"], f"it has {channels} channels")
        return item

    def collate_fn(self, items: Sequence[dict[str, Any] | Unusable]) -> dict[str, Any]:
        """Make Coqui's batch of the items that could be loaded, with `LEFT_OUT` where some could not."""
        usable = [item for item in items if not isinstance(item, Unusable)]
        batch: dict[str, Any] = self.dataset.collate_fn(usable) if usable else {}
        reasons = {item.name: item.reason for item in items if isinstance(item, Unusable)}
        return {**batch, LEFT_OUT: reasons} if reasons else batch


def _said(error: Exception) -> str:
    return shortened(f"{type(error).__name__}: {error}".rstrip(": "))


def _key_of_any(key: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a key by which a sampler sorts, which is 0 for a recording that was removed."""

    def size(sample: Any) -> Any:
        try:
            return key(sample)
        except OSError:
            return 0

    return size


def of_usable_items(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return the same loader, with the same samplers, of `UsableItems`; one that sorts by file size may lack files."""
    items = UsableItems(loader.dataset)
    sampler: Any = loader.batch_sampler
    sampler = getattr(sampler, "dataset", sampler)  # of several processes, Coqui wraps it
    if (key := getattr(sampler, "sort_key", None)) is not None:
        sampler.sort_key = _key_of_any(key)
    batches: dict[str, Any] = {"batch_sampler": loader.batch_sampler}
    if loader.batch_size is not None:  # torch made batches of a sampler, which may be that of several processes
        batches = {"sampler": loader.sampler, "batch_size": loader.batch_size, "drop_last": loader.drop_last}
    return DataLoader(
        items, collate_fn=items.collate_fn, num_workers=loader.num_workers, pin_memory=loader.pin_memory, **batches
    )

"""From sources to batches, with everything that was set aside counted and written down."""

import contextlib
import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import lightning
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmmed.data.card import read_card, show_licence
from mmmed.data.collate import pack, pad
from mmmed.data.collection import Collection, Listed
from mmmed.data.conversation import Join
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, guarded
from mmmed.data.kept import KeptPictures
from mmmed.data.mixture import Mixture
from mmmed.data.order import BatchOrder, ResumableLoader
from mmmed.data.reading import Reading, read_split, unproven
from mmmed.data.sending import Sending
from mmmed.data.shards import Shards
from mmmed.data.source import Snapshot, Source
from mmmed.data.sources.canaries import Canaries
from mmmed.data.splits import check_disjoint
from mmmed.data.trees import Questions, token_order
from mmmed.errors import ConfigError, DataError, OutputError
from mmmed.models.features import FrozenFeatures
from mmmed.models.vlm import Batch
from mmmed.processing.augmentation import Augmentation
from mmmed.processing.processor import ModelInput, Processor
from mmmed.records import Example, Quarantined, Split

_log = logging.getLogger(__name__)


class Conversations(Dataset[ModelInput]):
    """Examples as model inputs, made when asked for.

    Args:
        examples: The conversations.
        processor: Of the model.
        augmentation: How images are changed in training; None leaves them as they are.
        kept: What a frozen encoder's features are looked up with; None decodes every picture.
    """

    def __init__(
        self,
        examples: Collection,
        processor: Processor,
        *,
        augmentation: Augmentation | None = None,
        kept: KeptPictures | None = None,
    ) -> None:
        self.examples = examples
        self.processor = processor
        self.augmentation = augmentation
        self.kept = kept

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> ModelInput:
        """The example of an index that counts on through the epochs, as `BatchOrder` gives it."""
        epoch, place = divmod(index, len(self.examples))
        example = self.examples[place]
        if self.augmentation is not None:
            example = self.augmentation.changed(example, epoch=epoch)
        return self.processor.training(example) if self.kept is None else self.kept.training(example)


class MedicalData(lightning.LightningDataModule):
    """Training, validation and test data of one stage: a list of sources, read, checked, merged and batched.

    The processor is the model's own and is taken from the module that the trainer runs.

    Args:
        sources: The data sets.
        batch_size: Conversations per step and device.
        topics: Keep only examples of these topics; None keeps all.
        most_turns: Questions about the same images that are merged into one conversation.
        join: Which of them: `closed` questions with the same options, or `all`, for objectives that read no answer
            before another.
        mixture: How often what is seen in training; None sees everything once an epoch.
        validation_limit: Most validation conversations, None for all; with 0 sources need not have any.
        workers: Processes that decode ahead of the training step.
        seed: Of order and merging.
        augmentation: How images are changed in training; None leaves them as they are.
        privacy: How sources that may hold identifiers are made safe; null trains on them as they are.
        nearby: As many neighbours are seen at about the same time, for prepared sources that come from afar; null
            shuffles all.
        packing: `tree` lays conversations in one row instead of padding each, with all questions about the same images
            as branches of one tree, so that the images are read once and no question sees another; nothing is merged
            then. What is learned is the same as from separate, padded questions. None merges and pads.
        batch_tokens: Most tokens of a training batch, in the place of `batch_size`; `packing` needs it.

    Raises:
        ConfigError: There are no sources, or packing is asked for without `batch_tokens`.
    """

    def __init__(
        self,
        sources: list[Source],
        batch_size: int = 8,
        topics: list[str] | None = None,
        most_turns: int = 8,
        join: Join = "closed",
        mixture: Mixture | None = None,
        validation_limit: int | None = None,
        workers: int = 0,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        privacy: Privacy | None = DEFAULT_PRIVACY,
        nearby: int | None = None,
        packing: Literal["tree"] | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if not sources:
            raise ConfigError("the data has no sources; name at least one in `sources`")
        if packing is not None and batch_tokens is None:
            raise ConfigError(f"packing: {packing} makes batches by their tokens; set batch_tokens, such as 4096")
        self.packing = packing
        self.batch_tokens = batch_tokens
        self.sources = sources
        self.batch_size = batch_size
        self.topics = topics
        self.most_turns = most_turns
        self.join = join
        self.mixture = mixture
        self.validation_limit = validation_limit
        self.workers = workers
        self.seed = seed
        self.augmentation = augmentation
        self.privacy = privacy
        self.nearby = nearby
        self.audit = Audit()
        self.quarantined: list[Quarantined] = []
        self.counts: dict[str, dict[str, int]] = {}
        self._sets: dict[str, Conversations] = {}
        self._loader: ResumableLoader | None = None
        self._resume_at: dict[str, Any] = {}

    def prepare_data(self) -> None:
        for source in self.sources:
            show_licence(read_card(source.name))
        for source in guarded(self.sources, self.privacy, self.audit):
            source.prepare()

    def setup(self, stage: str) -> None:
        wanted: tuple[Split, ...] = ("test",) if stage == "test" else ("train", "validation")
        if self.validation_limit == 0:
            wanted = tuple(split for split in wanted if split != "validation")
        if self._sets.keys() >= set(wanted):
            return
        sources: list[Source] = [
            source if isinstance(source, Shards) else Snapshot(source)
            for source in guarded(self.sources, self.privacy, self.audit)
        ]
        # Branches of a tree are not merged: no question is to see another.
        most_turns = self.most_turns if self.packing is None else 1
        how = Reading(topics=self.topics, most_turns=most_turns, seed=self.seed, join=self.join)
        chosen = {split: read_split(sources, split, how) for split in wanted}
        check_disjoint(unproven(sources))
        kept = self._kept()
        for split, (conversations, counts, quarantined) in chosen.items():
            self.counts[split] = dict(counts)
            self.quarantined = list(dict.fromkeys([*self.quarantined, *quarantined]))
            limit = self.validation_limit if split == "validation" else None
            self._sets[split] = Conversations(
                conversations if limit is None else Listed(conversations[:limit]),
                self._processor(),
                augmentation=self.augmentation if split == "train" else None,
                kept=kept,
            )
        self._write_quarantine()
        if kept is not None:
            _log.info(kept.store.estimate(sum(self._sets[split].examples.pictures for split in wanted)))
        if self.augmentation is not None and _keeps_features(self._trainer().lightning_module):
            _log.warning(
                "every changed picture fills the disk with features that are never seen again; "
                "leave out the augmentation, or FrozenFeatures around the encoder"
            )
        if self.audit.checked:
            self.audit.write(Path(self._trainer().default_root_dir) / "privacy.jsonl")
        _log.info("examples by split and source: %s; quarantined: %d", self.counts, len(self.quarantined))

    def train_dataloader(self) -> ResumableLoader:
        data = self._sets["train"]
        trainer = self._trainer()
        shared: dict[str, Any] = {
            "seed": self.seed,
            "rank": trainer.global_rank,
            "world": trainer.world_size,
            "weights": self.mixture.weights(data.examples) if self.mixture is not None else None,
        }
        order: BatchOrder
        if self.batch_tokens is None:
            order = BatchOrder(data.examples.lengths, batch_size=self.batch_size, nearby=self.nearby, **shared)
        else:
            packed = self.packing is not None
            order = token_order(data.examples, data.processor, tokens=self.batch_tokens, together=packed, **shared)
        self._loader = ResumableLoader(
            self._dataset("train"),
            order,
            collate_fn=self._collate(),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
        if self._resume_at:
            self._loader.resume(self._resume_at)
        return self._loader

    def val_dataloader(self) -> DataLoader[ModelInput] | list[DataLoader[ModelInput]]:
        return [] if self.validation_limit == 0 else self._in_order("validation")

    def test_dataloader(self) -> DataLoader[ModelInput]:
        return self._in_order("test")

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in the data; Lightning keeps it with the checkpoint."""
        return self._loader.position() if self._loader is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the very next batch, whether the loader is there already or is yet to come."""
        self._resume_at = state_dict
        if self._loader is not None:
            self._loader.resume(state_dict)

    def examples(self, split: Split) -> Sequence[Example]:
        """The conversations of one split, as they are trained on."""
        return self._sets[split].examples

    def summary(self) -> dict[str, Any]:
        """Counts by split and source, what was set aside, and the canaries, which an audit asks for."""
        canaries = [source.described() for source in self.sources if isinstance(source, Canaries)]
        counted = {"examples": self.counts, "quarantined": len(self.quarantined)}
        return counted | ({"canaries": canaries} if canaries else {})

    def _in_order(self, split: Split) -> DataLoader[ModelInput]:
        return DataLoader(
            self._dataset(split),
            batch_size=self.batch_size,
            collate_fn=Sending(self._collate()),
            num_workers=self.workers,
        )

    def _dataset(self, split: Split) -> Dataset[ModelInput]:
        data = self._sets[split]
        if self.packing is None:
            return data
        return Questions(data.examples, data.processor, augmentation=data.augmentation, kept=data.kept)

    def _collate(self) -> partial[Batch]:
        return partial(pad if self.packing is None else pack, image_id=self._processor().image_id)

    def _processor(self) -> Processor:
        return cast(Processor, self._trainer().lightning_module.processor)

    def _kept(self) -> KeptPictures | None:
        """Where the model's encoder keeps features, what they are looked up with, so that pictures are not decoded."""
        module, processor = self._trainer().lightning_module, self._processor()
        vision = getattr(getattr(module, "model", None), "vision", None)
        if not isinstance(vision, FrozenFeatures) or not isinstance(processor, Processor):
            return None
        return KeptPictures(vision.store(str(self._trainer().precision)), processor)

    def _trainer(self) -> lightning.Trainer:
        if self.trainer is None:
            raise DataError("the data module is not attached to a trainer; run it through `mmmed fit`")
        return self.trainer

    def _write_quarantine(self) -> None:
        if self._trainer().global_rank == 0:  # every rank has set the same aside
            write_quarantine(Path(self._trainer().default_root_dir) / "quarantine.jsonl", self.quarantined)


def _keeps_features(module: object) -> bool:
    return isinstance(module, nn.Module) and any(isinstance(part, FrozenFeatures) for part in module.modules())


def write_quarantine(path: Path, quarantined: list[Quarantined]) -> None:
    """Write what was set aside, one JSON record a line. Raises `OutputError`."""
    lines = [
        json.dumps({"source": one.source, "record": one.record, "reason": one.reason}, ensure_ascii=False)
        for one in quarantined
    ]
    partial_path = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        partial_path.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial_path.unlink()
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --output") from error

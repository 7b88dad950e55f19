"""What a worker sends is what it made, in one piece."""

import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmmed.data.sending import SMALL, Parcel, Sending

TENSORS = {
    "ids": torch.arange(40).view(4, 10),
    "mask": torch.tensor([True, False]),
    "none": torch.empty(0, 3, 8, 8),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "turned": torch.arange(12.0).view(3, 4).T,
    "number": torch.tensor(3),
}


class Pieces(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"small": torch.full((5,), index), "large": torch.full((SMALL,), float(index))}


def first(inputs: Any) -> Any:
    return inputs[0]


def test_small_tensors_go_in_the_message_and_come_out_as_they_were() -> None:
    received = pickle.loads(bytes(ForkingPickler.dumps(Parcel({**TENSORS, "text": "word"}))))
    assert received.pop("text") == "word"
    for name, tensor in TENSORS.items():
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)
        received[name].add_(1) if tensor.dtype != torch.bool else received[name].logical_not_()  # may be written to


def test_no_small_tensor_takes_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[int] = []
    share = torch.UntypedStorage._share_fd_cpu_

    def counted(storage: torch.UntypedStorage, *arguments: Any) -> Any:
        shared.append(storage.nbytes())
        return share(storage, *arguments)

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", counted)
    monkeypatch.setattr("torch.multiprocessing.get_sharing_strategy", lambda: "file_descriptor")
    content = {"small": torch.zeros(8), "large": torch.zeros(SMALL)}
    ForkingPickler.dumps(content)
    assert shared == [32, 4 * SMALL]
    ForkingPickler.dumps(Parcel(content))
    assert shared[2:] == [4 * SMALL]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_alike_with_and_without_a_worker(workers: int) -> None:
    loader = DataLoader(Pieces(), batch_size=1, collate_fn=Sending(first), num_workers=workers)
    for index, batch in enumerate(loader):
        assert isinstance(batch, dict)
        assert torch.equal(batch["small"], Pieces()[index]["small"])
        assert torch.equal(batch["large"], Pieces()[index]["large"])

"""FSDP2: weights, gradients and optimizer states cut over all devices, and checkpoints of them in pieces."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mmmed.errors import OutputError
from mmmed.models.decoder import decoder_layers
from mmmed.models.features import FrozenFeatures
from mmmed.training.shard_files import META, OPTIMIZER, Pieces, ShardFolder, WholeTensors, rows_of, write_rows
from mmmed.training.whole_files import replace_file, sync_folder

STEPS = ("training_step", "validation_step", "test_step")


def shard(stage: nn.Module, mesh: DeviceMesh, *, precision: str) -> None:
    """Cut the parameters of a stage over the devices of a mesh; each decoder layer is gathered when it is its turn.

    What lies outside the decoder's layers is gathered for the whole of a step, so that objectives may use it as they
    like. Frozen encoders whose features are kept stay whole: they hardly ever run.

    Args:
        stage: With a `model` of parts.
        mesh: Of Lightning; its dimension `data_parallel` is cut over.
        precision: Of the trainer; with `bf16-mixed`, weights travel and compute in bf16, and gradients are summed in
            float32.
    """
    if isinstance(stage, FSDPModule):
        return
    mixed = precision == "bf16-mixed"
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else MixedPrecisionPolicy()
    whole = {one for part in stage.modules() if isinstance(part, FrozenFeatures) for one in part.parameters()}
    devices = mesh["data_parallel"]
    language = getattr(stage.model, "language", None)
    for layer in decoder_layers(language) if language is not None else ():
        fully_shard(layer, mesh=devices, mp_policy=policy)
    fully_shard(stage, mesh=devices, mp_policy=policy, reshard_after_forward=False, ignored_params=whole)
    for name in STEPS:
        register_fsdp_forward_method(stage, name)


class Sharded(ModelParallelStrategy):
    """FSDP2 over all devices, with checkpoints in pieces that any number of devices, or one file's reader, opens.

    A checkpoint is a folder behind a link of its name, which is turned to the new folder when all ranks have written;
    so a stop at any moment leaves a whole one.

    Args:
        process_group_backend: None takes nccl on GPUs and gloo on CPUs.
        timeout: Seconds that ranks wait for each other.
    """

    def __init__(self, process_group_backend: str | None = None, timeout: int = 1800) -> None:
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout),
        )

    def setup_environment(self) -> None:
        """Cut over all devices of all nodes, and nothing along another dimension."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This rank's pieces."""
        assert self.lightning_module is not None
        return dict(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Settings and names of the groups; the tensors are written piece by piece."""
        names = self._names()
        given: list[dict[str, Any]] = optimizer.param_groups
        return {"param_groups": [group | {"params": [names[one] for one in group["params"]]} for group in given]}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write this rank's pieces and, when all ranks have, put the checkpoint in its place.

        Raises:
            OutputError: Some rank cannot write; the checkpoint that was there before still is.
        """
        path = Path(self.broadcast(str(filepath)))
        slots = [path.with_name(f".{path.name}.{slot}") for slot in (0, 1)]
        used = Path(self.broadcast(str(path.resolve())))
        folder = next(slot for slot in slots if slot.resolve() != used)
        tensors = dict(checkpoint.pop("state_dict")) | self._optimizer_tensors()
        with self._together():
            if self.is_global_zero:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
        with self._together():
            write_rows(folder, tensors, rank=self.global_rank)
            if self.is_global_zero:
                kept = checkpoint | {"ranks": self.world_size}
                replace_file(folder / META, lambda file: torch.save(kept, file))
        with self._together():
            if self.is_global_zero:
                _turn(path, folder)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Do something on all ranks; where one cannot, none goes on.

        Raises:
            OutputError: Some rank cannot write.
        """
        problem = ""
        try:
            yield
        except (OSError, OutputError) as error:
            problem = str(error)
        problems: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(problems, problem)
        if any(problems):
            raise OutputError(next(filter(None, problems)))

    def remove_checkpoint(self, filepath: Any) -> None:
        """Remove a checkpoint and what its link leads to."""
        path = Path(filepath)
        if self.is_global_zero and path.is_symlink():
            folder = path.resolve()
            path.unlink()
            shutil.rmtree(folder, ignore_errors=True)
        elif self.is_global_zero:
            super().remove_checkpoint(filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Open a checkpoint of pieces, or one file of another strategy; nothing is filled in yet.

        Raises:
            CheckpointError: It is damaged.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        if not path.is_dir():
            loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            return loaded
        pieces = ShardFolder(path)
        named = {name: torch.empty(shape, device="meta") for name, shape in pieces.shapes.items()}
        state = {name: one for name, one in named.items() if not name.startswith(OPTIMIZER)}
        return pieces.meta | {"state_dict": state, _PIECES: pieces}

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        """Fill this rank's pieces of model and optimizers from a checkpoint that `load_checkpoint` opened."""
        assert self.lightning_module is not None
        pieces: Pieces = checkpoint.get(_PIECES) or WholeTensors(checkpoint)
        own = self.lightning_module.state_dict()
        with torch.no_grad():
            for name in checkpoint["state_dict"]:
                rows_of(own[name]).content.copy_(_piece(pieces, name, like=own[name]))
            for index, optimizer in enumerate(self.optimizers):
                for group, kept in zip(optimizer.param_groups, pieces.groups[index], strict=True):
                    group.update({key: value for key, value in kept.items() if key != "params"})
                    for parameter, owner in zip(group["params"], kept["params"], strict=True):
                        optimizer.state[parameter] = _moments(pieces, f"{OPTIMIZER}{index}/{owner}/", parameter)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names = self._names()
        return {
            f"{OPTIMIZER}{index}/{names[parameter]}/{key}": torch.as_tensor(value)
            for index, optimizer in enumerate(self.optimizers)
            for group in optimizer.param_groups
            for parameter in group["params"]
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    def _names(self) -> dict[nn.Parameter, str]:
        assert self.lightning_module is not None
        return {parameter: name for name, parameter in self.lightning_module.named_parameters()}


_PIECES = "pieces"


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model with all of their rows, on the CPU; all ranks have to ask for them together.

    What goes by two names is given by the first.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    second = names - {name for name, _ in model.named_parameters()}
    gathered = {}
    for name, tensor in model.state_dict().items():
        if name not in second:
            one: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            gathered[name] = one.detach().cpu()
    return gathered


def _piece(pieces: Pieces, name: str, *, like: Tensor) -> Tensor:
    """The rows of a tensor that this rank holds of another of the same shape."""
    held = rows_of(like)
    return pieces.rows(name, held.first, held.first + (len(held.content) if held.shape else 1))


def _moments(pieces: Pieces, prefix: str, parameter: nn.Parameter) -> dict[str, Tensor]:
    """What an optimizer keeps of a parameter; what has its shape is cut as it is."""
    kept: dict[str, Tensor] = {}
    for name in pieces.shapes:
        if not name.startswith(prefix):
            continue
        key = name.removeprefix(prefix)
        if pieces.shapes[name] != list(parameter.shape):
            kept[key] = pieces.rows(name, 0, 1)
            continue
        local = _piece(pieces, name, like=parameter).to(parameter.device)
        kept[key] = (
            DTensor.from_local(
                local,
                parameter.device_mesh,
                parameter.placements,
                run_check=False,
                shape=parameter.shape,
                stride=parameter.stride(),
            )
            if isinstance(parameter, DTensor)
            else local
        )
    return kept


def _turn(path: Path, folder: Path) -> None:
    """Let the name of a checkpoint lead to a new folder, and remove the one before.

    Raises:
        OutputError: The place cannot be written.
    """
    before = path.resolve() if path.is_symlink() else None
    link = path.with_name(f".{path.name}.link")
    try:
        sync_folder(folder)
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write checkpoint {path}: {error.strerror}; the one before is kept") from error
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)

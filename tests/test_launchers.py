"""The examples of docs/scale.md for torchrun and Slurm: complete, and understood by those they are for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def block(word: str) -> str:
    return next(one for one in BLOCKS if word in one)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_example_is_a_script_that_a_shell_can_read(number: int) -> None:
    done = subprocess.run(["bash", "-n"], input=BLOCKS[number], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_configurations_of_the_examples_exist(number: int) -> None:
    named = re.findall(r"--config (configs/\S+)", BLOCKS[number])
    assert all((ROOT / name).is_file() for name in named)


def test_torchrun_takes_its_example_and_starts_our_command() -> None:
    words = shlex.split(block("torchrun").replace("\\\n", " "))
    asked = get_args_parser().parse_args(words[1:])
    assert (asked.nnodes, asked.nproc_per_node, asked.rdzv_backend) == ("2", "8", "c10d")
    assert asked.rdzv_endpoint.endswith(":29500")
    assert (asked.module, asked.training_script) == (True, "mmmed")
    assert asked.training_script_args[0] == "fit"
    given = asked.training_script_args
    assert given[given.index("--trainer.num_nodes") + 1] == asked.nnodes


def test_slurm_starts_as_many_processes_as_it_has_gpus() -> None:
    script = block("#SBATCH")
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.MULTILINE))
    assert len(asked) == script.count("#SBATCH")
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    trainer = yaml.safe_load((ROOT / "configs" / "trainer" / "slurm.yaml").read_text())["trainer"]
    assert str(trainer["devices"]) in {asked["gpus-per-node"], "auto"}
    assert str(trainer["num_nodes"]) == asked["nodes"]


def test_a_slurm_job_that_starts_again_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    script = block("#SBATCH").replace("srun mmmed", "echo").replace("output=outputs/run", f"output={tmp_path}")
    first = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True).stdout
    assert "--ckpt_path" not in first
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    again = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True).stdout
    assert f"--ckpt_path {tmp_path}/checkpoints/last.ckpt" in again

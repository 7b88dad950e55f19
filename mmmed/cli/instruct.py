"""The command that has conversations made from captions and reports."""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from mmmed.cli.data import read_sources
from mmmed.data.card import read_card, show_licence
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, guarded
from mmmed.errors import ConfigError
from mmmed.inference.asking import Answerer
from mmmed.inference.endpoint import Endpoint
from mmmed.inference.loading import load
from mmmed.inference.self_instruct import make, read_template, text_of
from mmmed.page.files import replace_text
from mmmed.records import Example
from mmmed.version import VERSION


def instruct(
    sources: str,
    checkpoint: str,
    output: str,
    model: str = "",
    template: str | None = None,
    turns: int = 3,
    limit: int | None = None,
    max_new_tokens: int = 300,
    temperature: float = 0.0,
    seed: int = 0,
) -> None:
    """Have a language model make conversations about pictures from their captions or reports.

    Only training records are used; what shares a stretch of words with a validation or test record is taken out.
    Texts go to the model named: an endpoint outside the house gets what the privacy gate lets through.

    Args:
        sources: YAML file that lists sources, such as configs/data/roco.yaml, or a name in that folder.
        checkpoint: A language model: a folder, a hub name, a name of `mmmed weights list`, or the address of an
            OpenAI-compatible endpoint.
        output: JSON-lines file in LLaVA's form, with the provenance of each record.
        model: Name of the model at an endpoint.
        template: YAML file of another template than the project's.
        turns: Questions of each conversation.
        limit: Most records that conversations are made from.
        max_new_tokens: Longest conversation.
        temperature: 0 makes the same of the same with a local model.
        seed: Of drawing.
    """
    file = Path(sources) if sources.endswith(".yaml") else Path("configs/data") / f"{sources}.yaml"
    read = read_template(Path(template) if template else None)
    safe = guarded(read_sources(file), DEFAULT_PRIVACY, Audit())
    for source in safe:
        show_licence(read_card(source.name))
        source.prepare()
    records = [one for source in safe for one in source.records() if isinstance(one, Example) and text_of(one)]
    chosen = list({text_of(one): one for one in reversed(records) if one.split == "train"}.values())[::-1][:limit]
    if not chosen:
        raise ConfigError(f"{file}: no training record with a text to make a conversation from")
    answerer, maker = _maker(checkpoint, model)
    with tqdm(total=len(chosen), unit="conversation") as progress:
        made = make(
            answerer,
            chosen,
            maker=maker,
            template=read,
            held_out=[one for one in records if one.split != "train"],
            turns=turns,
            max_new_tokens=max_new_tokens,
            seed=seed,
            temperature=temperature,
            advance=progress.update,
        )
    replace_text(Path(output), "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made.records))
    questions = sum(len(one["conversations"]) // 2 for one in made.records)
    print(f"{made.asked} texts, {len(made.records)} conversations, {questions} questions in {output}")
    for name, count in made.taken_out.most_common():
        print(f"    taken out, {name}: {count}, such as {made.reasons[name]}")


def _maker(checkpoint: str, model: str) -> tuple[Answerer, dict[str, str]]:
    """Who makes conversations, and what the records say of it."""
    about = {"mmmed": VERSION, "checkpoint": checkpoint}
    if checkpoint.startswith(("http://", "https://")):
        return Endpoint(url=checkpoint, model=model), {**about, "model": model}
    if model:
        raise ConfigError(f"--model {model!r} names a model at an endpoint, and {checkpoint} is none; drop it")
    session = load(checkpoint, chat=True)
    return session, {**about, "weights": session.identity()}

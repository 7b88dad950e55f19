"""Conversations about a picture, made by a language model from what is known of it: its caption or report.

The model reads the text and never the picture; what it makes is filtered, and each record says what it was made from
and by whom. The idea is LLaVA-Med's (Li et al., NeurIPS 2023, section 3); templates and filters are ours.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from mmmed.data.conversation_filters import Pair, fault
from mmmed.data.leakage.texts import BenchmarkIndex, words
from mmmed.errors import ConfigError
from mmmed.inference.asking import Answerer
from mmmed.inference.generation import Decoding
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn

_FIELDS = ("version", "order", "examples")
_LINE = re.compile(r"^\W*(?:(?P<question>Q(?:uestion)?)|A(?:nswer)?)\s*\d*\s*[:.]\s*(?P<text>.*)$", re.IGNORECASE)
Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a model is asked for a conversation.

    Args:
        name: Of the file.
        version: Raised whenever a change of the file changes what is made.
        order: What it is to do, with `{turns}` and `{text}`.
        examples: Texts with the conversations that a careful person would make of them.
    """

    name: str
    version: int
    order: str
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made: records in LLaVA's form, and how many pairs each filter took out, with one reason of each."""

    records: list[dict[str, Any]] = field(default_factory=list)
    taken_out: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    asked: int = 0


def read_template(path: Path | None = None) -> Template:
    """Read a template, or the one that comes with the project.

    Raises:
        ConfigError: It is not there, or lacks a key, or its order has no place for text and turns.
    """
    place = str(path or "self_instruct.yaml")
    try:
        source = path if path is not None else files(__package__) / "self_instruct.yaml"
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"template {place}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != set(_FIELDS):
        raise ConfigError(f"template {place}: expected the keys {', '.join(_FIELDS)}")
    if any(part not in content["order"] for part in ("{turns}", "{text}")):
        raise ConfigError(f"template {place}: expected {{turns}} and {{text}} in its order")
    examples = tuple((one["text"].strip(), one["conversation"].strip()) for one in content["examples"])
    return Template(name=Path(place).stem, version=content["version"], order=content["order"], examples=examples)


def text_of(example: Example) -> str:
    """What is known of a picture: a document, or the answer held to be right."""
    document = next((turn.text for turn in example.turns if turn.speaker == "document"), "")
    return (document or example.reference).strip()


def order_for(example: Example, template: Template, *, turns: int) -> Example:
    """What the model is asked, after the template's examples."""
    said: list[Turn] = []
    for text, conversation in (*template.examples, (text_of(example), "")):
        said += [Turn("user", template.order.format(turns=turns, text=text)), Turn("assistant", conversation)]
    return Example(id=example.id, patient=example.patient, turns=tuple(said[:-1]), source=example.source)


def pairs_of(said: str) -> list[Pair]:
    """Questions with their answers in what a model wrote, in lines that begin with Q: and A:."""
    pairs: list[Pair] = []
    question: list[str] | None = None
    answer: list[str] | None = None

    def close() -> None:
        if question is not None and answer is not None:
            pairs.append(Pair(" ".join(question).strip(), " ".join(answer).strip()))

    for line in said.splitlines():
        match = _LINE.match(line)
        if match and match["question"]:
            close()
            question, answer = [match["text"]], None
        elif match:
            answer = [match["text"]] if answer is None else answer
        elif line.strip() and answer is not None:
            answer.append(line.strip())
        elif line.strip() and question is not None:
            question.append(line.strip())
    close()
    return pairs


def make(
    answerer: Answerer,
    examples: Sequence[Example],
    *,
    maker: Mapping[str, str],
    template: Template,
    held_out: Iterable[Example] = (),
    turns: int = 3,
    max_new_tokens: int = 300,
    seed: int = 0,
    temperature: float = 0.0,
    advance: Advance = lambda count: None,
) -> Made:
    """Have conversations made and keep what passes the filters.

    With temperature 0 a local model makes the same of the same.

    Args:
        answerer: Who makes them.
        examples: What they are made of: captions or reports of the training split.
        maker: What each record says of who made it, such as the checkpoint and a digest of its weights.
        template: How it is asked.
        held_out: Examples of which no stretch of words may stand in a conversation.
        turns: Questions of each conversation that are asked for.
        max_new_tokens: Longest conversation.
        seed: Of drawing, where the temperature is above 0.
        temperature: 0 takes the likeliest.
        advance: Told how many conversations are done.
    """
    asked = [order_for(example, template, turns=turns) for example in examples]
    decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    made = Made(asked=len(asked))
    seen: set[str] = set()
    benchmark = list(held_out)
    taken_out, reasons, records = made.taken_out, made.reasons, made.records

    def out(name: str, reason: str) -> None:
        taken_out[name] += 1
        reasons.setdefault(name, reason)

    written = answerer.write(asked, decoding=decoding, advance=advance)
    for example, order, said in zip(examples, asked, written, strict=True):
        kept: list[Pair] = []
        pairs = pairs_of(said.text)
        if not pairs:
            out("form", f"{example.id}: no lines Q: and A:")
        for pair in pairs:
            if (found := fault(pair, text_of(example))) is not None:
                out(found[0], f"{example.id}: {found[1]}")
            elif any(words(one.question) == words(pair.question) for one in kept):
                out("duplicate", f"{example.id}: {pair.question}")
            elif _leaks(pair, benchmark):
                out("leakage", f"{example.id}: {pair.answer}")
            else:
                kept.append(pair)
        whole = " ".join(words(" ".join(part for pair in kept for part in pair)))
        if whole in seen:
            # One question may be asked about many pictures; a whole conversation about two is no use.
            out("duplicate", f"{example.id}: the whole conversation")
        elif kept:
            seen.add(whole)
            settings = {"turns": turns, "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
            records.append(_record(example, kept, _provenance(example, order, said.text, template, maker, settings)))
    return made


def _leaks(pair: Pair, held_out: Sequence[Example]) -> bool:
    if not held_out:
        return False
    both = tuple(Turn("user", part) for part in pair)
    index = BenchmarkIndex([Example(id="pair", patient="", turns=both)])
    for example in held_out if len(index) else ():
        index.add(example)
    return bool(index.findings())


def _record(example: Example, kept: Sequence[Pair], provenance: dict[str, Any]) -> dict[str, Any]:
    turns: list[dict[str, str]] = []
    for number, pair in enumerate(kept):
        image = f"{IMAGE_PLACEHOLDER}\n" if number == 0 else ""
        turns += [{"from": "human", "value": image + pair.question}, {"from": "gpt", "value": pair.answer}]
    image = example.images[0].name if example.images else ""
    return {"id": example.id, "image": Path(image).name, "conversations": turns, "provenance": provenance}


def _provenance(
    example: Example,
    order: Example,
    said: str,
    template: Template,
    maker: Mapping[str, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "source": example.source,
        "record": example.id,
        "split": example.split,
        "licence": example.licence,
        "text_sha256": _digest(text_of(example)),
        "template": f"{template.name} {template.version}",
        "order_sha256": _digest(json.dumps([turn.text for turn in order.turns])),
        "said_sha256": _digest(said),
        "maker": dict(maker),
        "settings": dict(settings),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

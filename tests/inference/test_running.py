"""Who joins others that are being answered is answered as if alone, and so are those who were joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmmed.inference.album import Album
from mmmed.inference.generation import Decoding, generate, row_of
from mmmed.inference.running import Row, RunningBatch, text_of
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

Made = tuple[VisionLanguageModel, Processor]
LENGTHS = (3, 9, 1, 6, 4, 8)


@pytest.fixture(params=["images", "text alone", "soft prompt"])
def made(
    request: pytest.FixtureRequest, make_model: Callable[..., Any], make_processor: Callable[..., Processor]
) -> Made:
    settings: dict[str, Any] = {
        "images": {},
        "text alone": {"vision": False},
        "soft prompt": {"adapter": {"kind": "prompt", "tokens": 3}},
    }[request.param]
    model = make_model(initializer_range=0.3, **settings)
    return model, make_processor(model)


def texts_of(made: Made, rows: list[Row]) -> list[str]:
    return [text_of(made[1].prompt.tokenizer, row.written, row.decoding.stop) for row in rows]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("every", [1, 2])
def test_answers_do_not_depend_on_when_others_join(
    made: Made, examples: list[Example], temperature: float, every: int
) -> None:
    decodings = [Decoding(max_new_tokens=count, temperature=temperature, seed=5) for count in LENGTHS]
    alone = [generate(*made, [one], decoding=how)[0] for one, how in zip(examples, decodings, strict=True)]
    album, running = Album(*made), RunningBatch(*made)
    rows = [row_of(album, one, how) for one, how in zip(examples, decodings, strict=True)]
    waiting, ended, steps = list(rows), [], 0
    while waiting or running.rows:
        if waiting and steps % every == 0 and running.can_join:
            running.join([waiting.pop(0)], album)
        ended += running.step()
        steps += 1
    assert texts_of(made, rows) == alone
    assert sorted(map(id, ended)) == sorted(map(id, rows))
    assert running.tokens == 0


def test_one_who_leaves_changes_nothing_for_others(made: Made, examples: list[Example]) -> None:
    decoding = Decoding(max_new_tokens=8)
    alone = generate(*made, examples, decoding=decoding)
    album, running = Album(*made), RunningBatch(*made)
    rows = [row_of(album, one, decoding) for one in examples]
    running.join(rows, album)
    running.step()
    running.leave(rows[1:3])
    while running.rows:
        running.step()
    told = texts_of(made, rows)
    assert told[:1] + told[3:] == alone[:1] + alone[3:]
    assert len(rows[1].written) == 1


def test_the_likelihood_of_what_was_written_is_the_models(
    make_model: Callable[..., Any], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    model = make_model(initializer_range=0.3)
    processor = make_processor(model)
    album, running = Album(model, processor), RunningBatch(model, processor)
    row = row_of(album, examples[0], Decoding(max_new_tokens=5))
    running.join([row], album)
    while running.rows:
        running.step()
    with torch.inference_mode():
        from mmmed.data.collate import pad

        batch = pad([processor.question(examples[0])], image_id=processor.image_id)
        words = torch.cat([model.embed(batch), model.language.embed(torch.tensor([row.written]))], dim=1)
        logits = model.language.head(model.language(words, torch.ones(words.shape[:2], dtype=torch.long)))[0]
        before = logits[batch.ids_BT.shape[1] - 1 : -1].log_softmax(-1)
    expected = before.gather(1, torch.tensor(row.written)[:, None]).sum().item()
    assert row.log_likelihood == pytest.approx(expected, abs=1e-4)

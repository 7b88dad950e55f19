"""The model card of an export: what the provenance says, and "not reported" where it says nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

UNKNOWN = "not reported"

_PAGE = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- medical
- llava
- mmmed
---

# {title}

Exported by mmmed to the Hugging Face LLaVA layout. `digest.json` holds the hash of every tensor.

```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained("{title}")
processor = AutoProcessor.from_pretrained("{title}")
```

Research use only. Not a medical device, and no medical advice.

## Architecture

{architecture}

## Training

{training}

## Data

{data}

## Evaluation

{unknown}

## Licence

{licences}
"""


def model_card(*, title: str, architecture: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        title: Name of the model.
        architecture: Facts that the recipe gives.
        provenance: As in the model folder.
    """
    licences = provenance.get("licences") or [UNKNOWN]
    return _PAGE.format(
        title=title,
        architecture=_lines(architecture, list(architecture)),
        training=_lines(provenance, ["stage", "steps", "parameters", "imported", "environment"]),
        data=_lines(provenance, ["data", "data_hash"]),
        licences="\n".join(f"- {licence}" for licence in licences),
        unknown=UNKNOWN,
    )


def _lines(facts: Mapping[str, Any], names: list[str]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_said(facts.get(name))}" for name in names)


def _said(fact: Any) -> str:
    if fact is None or fact in ("", {}, []):
        return UNKNOWN
    return fact if isinstance(fact, str) else f"`{json.dumps(fact, ensure_ascii=False)}`"

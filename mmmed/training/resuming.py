"""What a run that goes on must know besides its weights: the random state of each rank, and how far it came."""

from typing import Any

import torch
from torch import distributed


def random_states() -> list[dict[str, Any]]:
    """torch's random state of every rank; all ranks have to ask for it together."""
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    own = {"cpu": torch.get_rng_state(), "cuda": cuda}
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def set_random_state(states: list[dict[str, Any]], *, rank: int) -> None:
    """Go on with the random state of a rank; one that is new takes that of another."""
    state = states[rank % len(states)]
    torch.set_rng_state(state["cpu"])
    for cuda in state["cuda"][: torch.cuda.device_count()]:
        torch.cuda.set_rng_state(cuda)


def rescale_progress(loops: dict[str, Any], *, before: int, now: int) -> None:
    """Count an epoch's batches as another number of ranks does, each of which sees its share of them.

    Args:
        loops: What Lightning keeps of its loops; changed in place.
        before: Ranks that the checkpoint was made with.
        now: Ranks that go on.
    """
    if before == now:
        return
    current = loops["fit_loop"]["epoch_loop.batch_progress"]["current"]
    ready = current["ready"]
    for name, value in current.items():
        # Those that are ready and not yet completed stay as many as they are.
        current[name] = ready * before // now - (ready - value)

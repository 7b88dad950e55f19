"""Jobs side by side: in order, a few at a time, each on one thread, and nothing left changed."""

from collections.abc import Iterator

import pytest
import torch

from mmmed.inference.threads import side_by_side


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_what_comes_of_jobs_keeps_their_order(threads: int) -> None:
    with torch.inference_mode():
        assert list(side_by_side(lambda job: job * job, range(8))) == [job * job for job in range(8)]


def test_no_more_jobs_are_made_than_are_under_way(threads: int) -> None:
    made = []

    def jobs() -> Iterator[int]:
        for job in range(10):
            made.append(job)
            yield job

    next(side_by_side(lambda job: job, jobs()))
    assert len(made) == threads


def test_each_computes_alone_and_without_gradients(threads: int) -> None:
    with torch.inference_mode():
        told = list(side_by_side(lambda job: (torch.get_num_threads(), torch.is_inference_mode_enabled()), range(4)))
    alone = (1, True)
    assert told[:3] == [alone] * 3
    assert torch.get_num_threads() == threads


def test_an_error_of_a_job_is_that_of_the_whole(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda job: 1 // job, [2, 1, 0, 1]))
    assert torch.get_num_threads() == threads

"""How long 10,000 phantom films take to render on two processes, from the pace of a few hundred.

    python benchmarks/phantom_rendering.py [films]

There is no peer: nobody else draws these films. The bar is two minutes.
"""

import multiprocessing
import os
import sys
import time

from measuring import Claim, write

from mmmed.cli.main import ENVIRONMENT
from mmmed.data.sources.phantom import PhantomSource
from mmmed.records import Example, LazyImage

BAR_SECONDS = 120


def main() -> None:
    """Print the pace and what it means for 10,000 films."""
    os.environ.update(ENVIRONMENT)
    films = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    images = [
        record.images[0]
        for record in PhantomSource(films, questions=("report",)).records()
        if isinstance(record, Example)
    ]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_open, images[:16])
        started = time.perf_counter()
        pool.map(_open, images, chunksize=8)
        seconds = time.perf_counter() - started
    forecast = seconds / films * 10_000
    print(f"{films} films in {seconds:.1f} s on 2 processes; 10,000 take {forecast:.0f} s (bar {BAR_SECONDS} s)")
    ratio = round(BAR_SECONDS / forecast, 2)
    write(
        "phantom_rendering",
        [
            Claim(
                claim="rendering 10,000 phantom films on 2 processes",
                peer="two minutes",
                ratio=ratio,
                low=ratio,
                high=ratio,
                bar=1.0,
                more={"films": films, "seconds_for_10000": round(forecast, 1)},
            )
        ],
    )


def _open(image: LazyImage) -> None:
    image.open()


if __name__ == "__main__":
    main()

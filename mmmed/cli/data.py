"""`mmmed data stats | check | prepare`: look at data sets, prove their splits clean, make them ready."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from tqdm import tqdm

from mmmed.cli.main import ClearErrors
from mmmed.data.card import read_card, show_licence
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import Privacy, coded, guarded
from mmmed.data.description import FEWEST_PATIENTS, describe
from mmmed.data.description_page import write_description
from mmmed.data.leakage.findings import Finding, Report, write_report
from mmmed.data.leakage.near import LEAST_AGREEMENT
from mmmed.data.leakage.scan import ScanSettings, scan
from mmmed.data.prepare import DEFAULT_RECIPE, Recipe, prepare_source
from mmmed.data.source import Source, decodable
from mmmed.errors import ConfigError
from mmmed.models.vision import VisionEncoder
from mmmed.records import Example, Quarantined

_FINDINGS_SHOWN = 4
# Pictures of a set that may hold identifiers are not shown, so that none needs to be read for text.
_TEXTS_ALONE = Privacy(images="keep")


def stats(sources: list[Source], output: str = "outputs/data", privacy: Privacy | None = _TEXTS_ALONE) -> None:
    """Draw a page for each data set: pictures, lengths, labels, who is in it, what is missing, what was set aside.

    Args:
        sources: The data sets.
        output: Folder of the pages.
        privacy: How sources that may hold identifiers are made safe; null counts and quotes them as they are.
    """
    names: Counter[str] = Counter()
    for source in guarded(_made_ready(sources), privacy, Audit()):
        names[source.name] += 1
        suffix = f"_{names[source.name]}" if names[source.name] > 1 else ""
        path = Path(output) / f"{source.name}{suffix}.html"
        card = read_card(source.name)
        records = list(tqdm(source.records(), desc=f"{source.name}: records", unit="record", disable=None, leave=False))
        good, bad = decodable([one for one in records if isinstance(one, Example)])
        quarantined = [*(one for one in records if isinstance(one, Quarantined)), *bad]
        fewest = 1 if card.deidentified else FEWEST_PATIENTS
        write_description(
            path, card=card, description=describe(good, quarantined, fewest_patients=fewest), examples=good
        )
        print(f"{source.name}: {len(good)} examples, {len(quarantined)} set aside  {path}")


def check(
    sources: list[Source],
    split_by: str | None = None,
    benchmarks: str | None = None,
    near: bool = True,
    least: float = LEAST_AGREEMENT,
    encoder: VisionEncoder | None = None,
    seed: int = 0,
    output: str = "outputs/leakage.json",
    cache: str | None = None,
) -> int:
    """Look for whatever stands in two splits: patients, studies, pictures however altered, and texts.

    Exits with 0 where the splits are clean, and with 1 where anything stands in two of them. Records of a set that
    may hold identifiers are named by codes: the same ones that training and evaluation give them.

    Args:
        sources: The data sets, compared with each other too.
        split_by: Attribute that holds the split to be tested, such as official_split; the source's own unless named.
        benchmarks: File with the sources of benchmarks that training must not have seen.
        near: Look for copies that were resized, cropped, compressed, turned, brightened or marked.
        least: Agreement, up to 1, from which two pictures are held to be one.
        encoder: Its nearest neighbours are compared as well, by the copy test of all others.
        seed: Of the search.
        output: File of the findings.
        cache: File in which thumbnails are kept for the next scan.
    """
    report = scan(
        coded(_made_ready(sources)),
        settings=ScanSettings(split_by=split_by, near=near, least=least, seed=seed),
        benchmarks=coded(_made_ready(read_sources(Path(benchmarks)))) if benchmarks else [],
        encoder=encoder,
        cache=Path(cache) if cache else None,
    )
    write_report(report, Path(output))
    print("\n".join([*_summary(report), f"findings    {output}"]))
    return 0 if report.is_clean else 1


def prepare(sources: list[Source], output: str = "outputs/prepared", recipe: Recipe = DEFAULT_RECIPE) -> None:
    """Make data sets ready for training: check every record and picture, split, and write shards.

    Each becomes a folder with its records and pictures in a few large files, its splits, what was set aside and why,
    and its licence. `mmmed.data.shards.Shards` reads it.

    Args:
        sources: The data sets.
        output: Folder of the prepared ones.
        recipe: Splits, size of the pictures, privacy.
    """
    names: Counter[str] = Counter()
    for source in _made_ready(sources):
        names[source.name] += 1
        suffix = f"_{names[source.name]}" if names[source.name] > 1 else ""
        made = prepare_source(source, Path(output) / f"{source.name}{suffix}", recipe=recipe)
        index = made.index
        counts = ", ".join(f"{number} {split}" for split, number in index.examples.items())
        print(f"{source.name} {index.version}: {counts}; {index.quarantined} set aside  {made.folder}")


def read_sources(path: Path) -> list[Source]:
    """Build the sources that a file lists under `sources`.

    Raises:
        ConfigError: There is no such file, or it holds something else.
    """
    if not path.is_file():
        raise ConfigError(f"no file {path}; expected YAML with a list `sources`")
    parser: ArgumentParser = ClearErrors(prog="mmmed data")
    parser.add_argument("--sources", type=list[Source])
    built: list[Source] = parser.instantiate(parser.parse_path(str(path))).sources
    return built


def _made_ready(sources: Sequence[Source]) -> list[Source]:
    if not sources:
        raise ConfigError("no sources; name at least one under `sources`")
    logging.getLogger("mmmed").setLevel(logging.INFO)
    for source in sources:
        show_licence(read_card(source.name))
        source.prepare()
    return list(sources)


def _summary(report: Report) -> list[str]:
    across, within = (_counted(report.counts(across=which)) for which in (True, False))
    lines = [f"looked at   {', '.join(f'{number} {what}' for what, number in report.looked_at.items() if number)}"]
    if report.unreadable:
        lines.append(f"unreadable  {len(report.unreadable)} pictures; the reasons stand in the file")
    if report.is_clean:
        lines.append("clean       nothing stands in two splits")
    else:
        lines.append(f"NOT CLEAN   two splits share {across}")
    lines.append(f"within      {f'one split holds {within} twice' if within else 'nothing stands twice in one split'}")
    for kind, number in report.counts(across=True).items():
        these = [one for one in report.findings if one.is_across and one.kind == kind]
        lines += [f"  {_line(one)}" for one in these[:_FINDINGS_SHOWN]]
        if number > _FINDINGS_SHOWN:
            lines.append(f"  and {_counted({kind: number - _FINDINGS_SHOWN})} more")
    return lines


_PLURALS = {"patient": "patients", "study": "studies", "near image": "near copies of images"}
_SINGULARS = {"near image": "near copy of an image", "benchmark": "text of a benchmark"}


def _counted(counts: Mapping[str, int]) -> str:
    """Kinds of findings with their numbers, as a list in words."""
    words = [
        f"{number} {_SINGULARS.get(kind, kind) if number == 1 else _PLURALS.get(kind, f'{kind}s')}"
        for kind, number in counts.items()
    ]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _line(finding: Finding) -> str:
    """What was found, shortly: of a path the file and its folder, and how alike two things are where they differ."""
    first, second = ("/".join(Path(name).parts[-2:]) for name in (finding.first, finding.second))
    names = first if finding.first == finding.second else f"{first} = {second}"
    alike = f"  (agreement {finding.score:.2f})" if finding.score < 1 else ""
    return f"{finding.kind:<10}  {' and '.join(finding.splits):<20}  {names}{alike}"

"""`mmmed data stats | check`: look at data sets, and prove their splits clean."""

import logging
from collections import Counter
from collections.abc import Sequence
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
from mmmed.data.source import Source, decodable
from mmmed.errors import ConfigError
from mmmed.models.vision import VisionEncoder
from mmmed.records import Example, Quarantined

_FINDINGS_SHOWN = 10
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
    lines = [f"looked at   {', '.join(f'{number} {what}' for what, number in report.looked_at.items() if number)}"]
    if report.unreadable:
        lines.append(f"unreadable  {len(report.unreadable)} pictures; the reasons stand in the file")
    for across, words in ((True, "two splits"), (False, "one split")):
        counts = report.counts(across=across)
        found = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nothing"
        lines.append(f"{words:<10}  {found}")
    shown = [one for one in report.findings if one.is_across][:_FINDINGS_SHOWN]
    lines += [f"  {_line(one)}" for one in shown]
    more = sum(report.counts(across=True).values()) - len(shown)
    return lines + ([f"  and {more} more"] if more else [])


def _line(finding: Finding) -> str:
    names = finding.first if finding.first == finding.second else f"{finding.first} = {finding.second}"
    return f"{finding.kind}, {' and '.join(finding.splits)}, {finding.score:.2f}: {names}"

"""`mmmed weights list | pull | where`: find, fetch and verify pretrained weights."""

from mmmed.models.weights.catalogue import CatalogueEntry, catalogue
from mmmed.models.weights.fetch import cache_folder, is_cached, resolve


def list_weights() -> None:
    """List the weights that need no model hub, with what they weigh and under which licence they stand."""
    for entry in catalogue():
        used_by_default = ", part of the default pair" if entry.default else ""
        architecture = f", architecture {entry.architecture}" if entry.architecture else ""
        state = "in the cache" if is_cached(entry) else "not fetched yet"
        print(f"{entry.name} ({entry.kind}{architecture}{used_by_default})")
        print(f"  {entry.note}")
        print(f"  reference  {entry.reference}")
        print(f"  licence    {entry.licence}; from {entry.home}")
        print(f"  size       {entry.size / 1e6:.1f} MB, {state}")
    print(
        "Besides these: hf:ORG/NAME@REVISION, timm:ARCHITECTURE.TAG, open_clip:ARCHITECTURE/TAG, "
        "or a path on this machine."
    )


def pull(reference: str = "default", force: bool = False) -> None:
    """Fetch weights into the cache and check their hash; a second time only checks.

    Args:
        reference: A reference as in a configuration, a short name of `mmmed weights list`, "default" for
            the pair that needs no model hub, or "all" for the whole list.
        force: Fetch again what is there already, as after a damaged file.
    """
    for name in _references(reference):
        print(f"ready: {resolve(name, force=force)}")


def where(reference: str | None = None) -> None:
    """Print the folder that weights are kept in, or the file or folder of one reference.

    Args:
        reference: A reference, or a short name of `mmmed weights list`; it is fetched if it is not there yet.
    """
    if reference is None:
        print(cache_folder())
        return
    for name in _references(reference):
        print(resolve(name))


def _references(name: str) -> list[str]:
    """Read what `pull` is asked for: a group, a short name, or a reference as it is."""
    groups: dict[str, list[CatalogueEntry]] = {
        "all": list(catalogue()),
        "default": [entry for entry in catalogue() if entry.default],
    } | {entry.name: [entry] for entry in catalogue()}
    return [entry.reference for entry in groups[name]] if name in groups else [name]

"""Find the one master that a path names: a FITS or XISF file, or a master in a store."""

from __future__ import annotations

from ostcal.errors import InputError
from ostcal.fits.read import inspect_images
from ostcal.library.attributes import record_from_attributes
from ostcal.library.find import STORE_NAME, LibraryMaster, StorePlane, masters_in_file, store_location
from ostcal.library.store import MasterStore
from ostcal.places.paths import is_dir, is_file, normalized, parent_of

_MOST_NAMES = 10
"""Names of masters that an error lists."""


def find_master(path: str, extension: str | None = None) -> LibraryMaster:
    """Find the master that a path names: a file, or ``masters.zarr/NAME``.

    Of a file of several masters `extension` names one.

    Raises
    ------
    InputError
        If the path names no master, or several.
    StorageError
        If a stored master is damaged.
    """
    place = normalized(path)
    if is_file(place):
        return _of_file(place, extension)
    name = place.replace("\\", "/").rpartition("/")[2]
    store = MasterStore(parent_of(place))
    if name and store.is_store():
        if name not in store.names():
            raise InputError(f"{place}: there is no such master{_there(store)}")
        plane = StorePlane(store=store.location, name=name)
        return LibraryMaster(record=record_from_attributes(name, store.attributes(name)), plane=plane)
    if not is_dir(place):
        raise InputError(f"{place}: there is no such file; give a FITS or XISF master, or {STORE_NAME}/NAME")
    for location in (place, store_location(place)):
        if (store := MasterStore(location)).is_store():
            raise InputError(
                f"{place}: is a store of masters, not one of them; open {location}/NAME, or ostcal.Library for all"
                f"{_there(store)}"
            )
    raise InputError(f"{place}: is a folder, not a master; name a file in it, or use ostcal.Library for all of them")


def _there(store: MasterStore) -> str:
    names = store.names()
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"; there are: {', '.join(names[:_MOST_NAMES]) or 'none'}{more}"


def _of_file(path: str, extension: str | None) -> LibraryMaster:
    """Return the master in a file."""
    masters, remarks = masters_in_file(path)
    if remarks and not masters:
        raise InputError(f"{path}: {remarks[0]}")
    if not masters:
        kind = inspect_images(path)[0].metadata.frame_type
        what = f"a {kind} frame" if kind is not None else "a frame of unknown kind"
        raise InputError(f"{path}: is {what}, not a master; make masters with ostcal masters")
    labels = [master.key.settings.extension for master in masters]
    if extension is not None:
        if extension not in labels:
            there = ", ".join(label for label in labels if label is not None) or "none"
            raise InputError(f"{path}: has no master in an extension {extension}; there are: {there}")
        return masters[labels.index(extension)]
    if len(masters) > 1:
        raise InputError(f"{path}: has masters in the extensions {', '.join(map(str, labels))}; say which: extension=")
    return masters[0]

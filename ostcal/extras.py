"""Packages that are installed on request (extras): what needs them, and how they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ostcal.errors import MissingPackageError


@contextmanager
def needed_for(what: str, *, package: str, extra: str) -> Iterator[None]:
    """Import a package of an extra in the body.

    Parameters
    ----------
    what : str
        What cannot be done without the package; the message begins with it.
    package : str
        Its name in the registry.
    extra : str
        The extra of ostcal that installs it.

    Raises
    ------
    MissingPackageError
        If it is not installed or cannot be imported.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"{what} needs {package}: pip install 'ostcal[{extra}]'") from error
    except ImportError as error:
        raise MissingPackageError(
            f"{what} needs {package}, which cannot be imported ({error}): pip install 'ostcal[{extra}]'"
        ) from error

"""The devices of a configuration, connected, and what depends on which camera it is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ostcal.capture.series_plan import CaptureWatcher, Equipment, RetryRules
from ostcal.clock import Clock, FastClock, SystemClock
from ostcal.config import CameraSection, Config, ConfigSource, load_config
from ostcal.devices.alpaca import AlpacaCamera, AlpacaCoverCalibrator, AlpacaFilterWheel
from ostcal.devices.alpaca_link import Timeouts, require_alpyca
from ostcal.devices.discovery import find_camera
from ostcal.devices.protocols import Camera
from ostcal.errors import OstcalError
from ostcal.workflow.open_mount import open_mount
from ostcal.workflow.safety import safety_check

if TYPE_CHECKING:
    from ostcal.simulator.server import SimulatedObservatory

Ask = Callable[[str], bool]
"""Asks the observer to do something by hand; false ends the step."""


@contextmanager
def open_equipment(
    config: Config,
    watcher: CaptureWatcher | None = None,
    ask: Ask | None = None,
    clock: Clock | None = None,
    *,
    may_move: Callable[[], str | None] | None = None,
) -> Iterator[Equipment]:
    """Connect camera, filter wheel and cover as the configuration says, and disconnect them at the end.

    Without `clock` it is that of the camera. With ``camera_type: simulator`` a simulated observatory is started for as
    long as the context lives. A mount that is pointed for flats of the sky is connected when it is used, and moves only
    while `may_move` gives no reason against it; by default the devices of the section ``safety`` are asked.

    Raises
    ------
    DeviceError
        If a device does not answer or does not connect.
    ConfigError
        If flats of the sky need a mount and none is configured, or a package of the extra ``capture`` is missing.
    """
    require_packages(config)
    clock = clock or clock_of(config)
    with ExitStack() as opened:
        if may_move is None:
            may_move = partial(opened.enter_context(safety_check(config, clock)).refusal, must_be_open=True)
        camera, observatory = _connect_camera(config, clock)
        opened.callback(camera.close)
        alpaca, timeouts = config.video.alpaca, _timeouts(config)
        host, port = alpaca.host, alpaca.port
        wheel_id, cover_id = alpaca.filter_wheel_id, alpaca.cover_calibrator_id
        if observatory is not None:
            host, port, wheel_id, cover_id = "127.0.0.1", observatory.port, 0, 0
        wheel = cover = None
        if wheel_id is not None:
            wheel = AlpacaFilterWheel(host, port, wheel_id, timeouts=timeouts)
            opened.callback(wheel.close)
        if cover_id is not None:
            cover = AlpacaCoverCalibrator(host, port, cover_id, timeouts=timeouts)
            opened.callback(cover.close)
        mount = open_mount(config, timeouts, clock, may_move, observatory.port if observatory is not None else None)
        if mount is not None:
            opened.callback(mount.close)
        watcher = watcher or CaptureWatcher()
        yield Equipment(camera=camera, clock=clock, watcher=watcher, wheel=wheel, cover=cover, mount=mount, ask=ask)


def open_camera(config: ConfigSource = None) -> Camera:
    """Connect the camera of a configuration.

    Parameters
    ----------
    config : None, path, dict or Config
        The section ``video`` says which camera; ``None`` is the defaults.

    Returns
    -------
    Camera
        Connected; a context manager. A simulated observatory that was started for it ends with it.

    Raises
    ------
    DeviceError
        If it does not answer or does not connect.
    ConfigError
        If a package of the extra ``capture`` is missing.

    Examples
    --------
    >>> from ostcal import open_camera
    >>> with open_camera({"video": {"camera_type": "simulator"}}) as camera:  # doctest: +SKIP
    ...     print(camera.info.name)
    """
    loaded = load_config(config)
    require_packages(loaded)
    return _connect_camera(loaded, clock_of(loaded))[0]


def require_packages(config: Config) -> None:
    """Raise `MissingPackageError` if the camera of a configuration needs a package that is not installed."""
    camera_type = config.video.camera_type
    if camera_type == "simulator":
        import ostcal.simulator.server  # noqa: F401 -- raises without its web server
    if camera_type != "ascom":
        require_alpyca()


def _connect_camera(config: Config, clock: Clock) -> tuple[Camera, SimulatedObservatory | None]:
    """Connect the camera, which measures time by `clock`; start its simulated observatory, which ends with it."""
    video, timeouts = config.video, _timeouts(config)
    if video.camera_type == "alpaca":
        alpaca = video.alpaca
        number, name = alpaca.device_id, alpaca.camera_name or video.camera_name
        if name is not None:
            number = find_camera(alpaca.host, alpaca.port, name, timeouts.reply_s)
        return AlpacaCamera(alpaca.host, alpaca.port, number, timeouts=timeouts, clock=clock), None
    if video.camera_type == "ascom":
        from ostcal.devices.ascom import open_ascom_camera

        return open_ascom_camera(video.ascom.camera_name or video.camera_name), None
    from ostcal.simulator.options import SimulatorOptions
    from ostcal.simulator.server import SimulatedObservatory

    settings = video.simulator
    observatory = SimulatedObservatory(
        SimulatorOptions(
            sensor=settings.sensor, time_scale=settings.time_scale, seed=settings.seed, faults=settings.faults
        )
    )
    observatory.start()
    try:
        camera = AlpacaCamera("127.0.0.1", observatory.port, timeouts=timeouts, clock=clock)
    except OstcalError:
        observatory.stop()
        raise
    weakref.finalize(camera, observatory.stop)
    return camera, observatory


def _timeouts(config: Config) -> Timeouts:
    alpaca = config.video.alpaca
    return Timeouts(reply_s=alpaca.reply_timeout, silence_s=alpaca.silence_timeout)


def clock_of(config: Config) -> Clock:
    """Return the clock of the camera: a fast one with a simulated camera."""
    video = config.video
    return FastClock(video.simulator.time_scale) if video.camera_type == "simulator" else SystemClock()


def camera_values(config: Config) -> CameraSection:
    """Return what is set before an exposure; a simulated camera has the values of ``video.alpaca``."""
    video = config.video
    return video.ascom if video.camera_type == "ascom" else video.alpaca


def retry_rules(config: Config) -> RetryRules:
    """Return the patience with a frame: a simulated observatory makes its frames in real time, whatever its scale."""
    rules = RetryRules()
    if config.video.camera_type != "simulator":
        return rules
    return replace(rules, ready_margin_s=rules.ready_margin_s * max(1.0, config.video.simulator.time_scale))

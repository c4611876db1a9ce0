"""`ostcal simulate`: an observatory without hardware."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import click
from click.decorators import FC

from ostcal.cli.console import command_console, debug_option
from ostcal.simulator.faults import FAULTS
from ostcal.simulator.options import CoverKind, GainMode, ImageElement, Light, SimulatorOptions, Twilight
from ostcal.simulator.sensor import SENSORS

ALPACA_PORT = 11111
"""The customary port of Alpaca servers."""

EPILOG = f"""\b
Faults, each as NAME, NAME:WHEN, and for drop, http500 and silence NAME@METHOD:WHEN
(WHEN: a probability from 0 to 1, once, or afterN; METHOD: startexposure, any, ...):
  {(chr(10) + "  ").join(f"{name:16} {what}" for name, what in FAULTS.items())}

\b
Examples:
  ostcal simulate --time-scale 60
  ostcal simulate --sensor bayer --port 0 --fault drop:0.1 --fault late-ready:once
"""


def _choice(name: str, default: StrEnum, meaning: str) -> Callable[[FC], FC]:
    """Return an option whose values are those of an enumeration."""
    kind = type(default)
    return click.option(
        name,
        type=click.Choice([value.value for value in kind]),
        callback=lambda _context, _parameter, value: kind(value),
        default=default.value,
        show_default=True,
        help=meaning,
    )


@click.command("simulate", epilog=EPILOG)
@click.option("--sensor", type=click.Choice(list(SENSORS)), default="demo", show_default=True, help="Simulated sensor.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=ALPACA_PORT, show_default=True, help="Port; 0 chooses a free port."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; by default this machine.")
@click.option("--time-scale", default=1.0, show_default=True, help="How much faster time passes than in reality.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the noise and the faults."
)
@click.option("--fault", "faults", multiple=True, metavar="NAME[:WHEN]", help="Fault to simulate; may be repeated.")
@click.option("--no-discovery", is_flag=True, help="Do not answer searches for Alpaca servers (UDP 32227).")
@_choice("--gain-mode", GainMode.VALUE, "Whether gain and offset are values or positions in a list.")
@_choice("--image-element", ImageElement.UINT16, "Type of the transmitted pixels; int16 and byte drop the lowest bits.")
@click.option("--no-shutter", is_flag=True, help="Camera without a shutter, so that darks need a cover.")
@_choice("--cover", CoverKind.FLIP_FLAT, "Device in front of the telescope.")
@click.option(
    "--light",
    default=20_000.0,
    show_default=True,
    help="Constant sky brightness, electrons per second in a pixel of response 1.",
)
@click.option(
    "--twilight",
    type=click.Choice([kind.value for kind in Twilight]),
    is_flag=False,
    flag_value=Twilight.DUSK.value,
    help="Changing sky brightness, from the first frame exposed to it; dusk by default.",
)
@click.option("--fast", is_flag=True, help="Frames from precomputed noise: 61 MP in 0.2 s instead of 3 s.")
@click.option("--interface-version", type=click.IntRange(1, 4), default=4, show_default=True, help="ICamera version.")
@debug_option
def simulate(
    no_discovery: bool,
    no_shutter: bool,
    light: float,
    twilight: str | None,
    debug: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Run a simulated observatory: camera, filter wheel and flat panel behind a real Alpaca server.

    The properties of its sensor are known exactly. The server runs until Ctrl-C.
    """
    with command_console(log_level, debug):
        from ostcal.simulator.server import SimulatedObservatory  # an extra has its web server

        simulated = SimulatorOptions(
            discovery=not no_discovery,
            shutter=not no_shutter,
            light=Light(sky_e_per_s=light, twilight=Twilight(twilight) if twilight else None),
            **options,
        )
        try:
            with SimulatedObservatory(simulated) as observatory:
                model = simulated.sensor_model()
                click.echo(f"simulated observatory at {observatory.url} ({model.name}, {model.width} x {model.height})")
                while True:
                    time.sleep(0.5)
        except KeyboardInterrupt:  # SIGTERM too
            click.echo("simulated observatory ended")

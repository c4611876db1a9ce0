"""A sensor whose truth is known: frames from physics, for tests, the demo and the simulated camera."""

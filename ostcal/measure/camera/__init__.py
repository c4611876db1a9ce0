"""The camera: read noise, gain, full well, linearity and dark current, measured on the frames of its masters."""

"""Calibration of science frames with the masters that fit."""

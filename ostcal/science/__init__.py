"""Calibrating science frames with the masters that fit."""

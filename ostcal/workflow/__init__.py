"""The evening: devices, captures and masters of one configuration.

Only the public classes here connect a configuration, devices, capture and masters.
"""

from ostcal.workflow.captures import DarkCapture, FlatCapture
from ostcal.workflow.evening import CalibrationWorkflow
from ostcal.workflow.open_devices import open_camera, open_equipment

__all__ = ["CalibrationWorkflow", "DarkCapture", "FlatCapture", "open_camera", "open_equipment"]

"""From frames to masters: plan, prepare, run, judge, publish."""

"""Names and signatures of other programs, on ostcal's own arithmetic."""

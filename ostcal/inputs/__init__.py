"""What frames there are and how they are grouped; import and export."""

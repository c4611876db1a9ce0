"""Masters: which frames belong together, how each kind is made, where masters are found again."""

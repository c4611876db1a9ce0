"""Masters on disk: store, attributes, names, header, finding, loading, verifying, history."""

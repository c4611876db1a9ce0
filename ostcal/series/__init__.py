"""Raw frames in zarr: format, records of frames, writer, reader, shards."""

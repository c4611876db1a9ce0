"""Raw files of DSLR and mirrorless cameras, decoded by LibRaw (`rawpy`, the extra `raw`) in a process of its own."""

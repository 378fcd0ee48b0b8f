"""Word vectors to and from the files of other tools: NeuroX (JSON, HDF5) and ConceptX (point and vocab .npy)."""

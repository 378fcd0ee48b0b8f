"""Word vectors and clusters to and from the files of other tools: NeuroX and ConceptX."""

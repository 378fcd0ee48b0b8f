"""Models: the only user of torch, transformers and tokenizers. `encode` reads word vectors, `train` makes checkpoints."""

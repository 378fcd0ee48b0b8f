"""Models: the only user of torch, transformers and tokenizers. `encode` reads vectors, `train` makes checkpoints."""

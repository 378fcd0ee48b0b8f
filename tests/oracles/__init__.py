"""Truth from outside: the paper's equations as loops, scikit-learn, transformers one sentence at a time."""

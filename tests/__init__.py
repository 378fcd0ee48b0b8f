"""Tests: one file a module, the paper's equations as plain loops in `oracles`."""

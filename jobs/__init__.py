"""Command line, plans and runs: when and where the stages run."""

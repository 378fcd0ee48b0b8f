"""Studies of the paper, ready to run; `jobs.templates` writes them where they are wanted."""

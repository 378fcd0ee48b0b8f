"""What is computed: one file a stage, datasets in, datasets out; the heavy libraries one file each."""

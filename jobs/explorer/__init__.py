"""The explorer's page: what is written beside the data of a study; see `jobs.explore`."""

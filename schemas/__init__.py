"""What the data are: schemas of every dataset, the study file, the errors."""

"""Data sets in tar files of WebDataset's form, read in any order: no streams, so a run resumes exactly."""

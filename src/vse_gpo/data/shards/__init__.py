"""Data sets in tar files of WebDataset's form, read in any order: no streams, so a run resumes exactly."""

from vse_gpo.data.shards.dataset import ShardsDataset as ShardsDataset

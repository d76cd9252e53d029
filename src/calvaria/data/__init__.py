"""Public skulls: what there is, who is on which side of the split, and defects cut from complete skulls."""

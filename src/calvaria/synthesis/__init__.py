"""Training cases from complete skulls: defects, augmentation, skulls between skulls, batches."""

"""Public sets and what is known of them: one catalogue, layouts, splits, near-duplicates, the training cache."""

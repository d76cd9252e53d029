"""A patch displaced until the skull is symmetric and its surface runs on across the rim; see `refine`."""

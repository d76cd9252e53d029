"""Public sets and other files: downloaded with resume, held against their hashes, unpacked safely."""

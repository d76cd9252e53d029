"""The patient's own bone: a scan from before the operation, or one of the removed piece, put where bone is missing."""

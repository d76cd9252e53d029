"""The mid-sagittal plane and how it is found."""

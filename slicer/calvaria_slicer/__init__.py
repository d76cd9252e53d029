"""What the modules for 3D Slicer share; not beside them, for Slicer takes every script there for a module."""

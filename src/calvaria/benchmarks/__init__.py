"""The tables and timings that calvaria reports, each made by one command."""

"""The page of ``calvaria serve``: parses what a browser asks for, calls `results` in worker processes, serves."""

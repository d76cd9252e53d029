"""The page: ``calvaria serve``. Parses what a browser asks for, calls `calvaria.results` in worker processes, serves."""

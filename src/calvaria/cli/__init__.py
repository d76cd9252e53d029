"""The command line: parse, call the API, print; an error becomes one line and an exit code.

Exit codes: 0 done; 1 our fault (a bug); 2 the input or the call; 3 done, but a quality check failed; 130 interrupted.
"""

from calvaria.cli.app import main

__all__ = ["main"]

"""`python -m innerworld` is the command line."""

from innerworld.cli import main

raise SystemExit(main())

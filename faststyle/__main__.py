"""`python -m faststyle` is the `faststyle` command."""

from faststyle.cli import main

raise SystemExit(main())

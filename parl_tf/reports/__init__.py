"""Reports of one or several runs: tables, figures and an HTML page."""

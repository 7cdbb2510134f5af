"""report.json and everything that is drawn from it: verdict, table, markdown, plots, sweeps. Nothing here
imports torch."""

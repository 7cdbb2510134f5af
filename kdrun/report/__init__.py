"""report.json and what is made from it: verdict, tables, pages, plots, sweeps. Nothing here imports torch."""

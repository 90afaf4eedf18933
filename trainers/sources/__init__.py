"""Sources of data: folders, tables, saved datasets and the Hub as one `datasets` dataset, and their labels."""

"""Where data comes from: folders, tables, saved datasets and the Hub, as one `datasets` dataset; their labels."""

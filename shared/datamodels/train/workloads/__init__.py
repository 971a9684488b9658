"""Built-in trainers and data sets of small problems: digits, tables, text."""

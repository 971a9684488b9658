"""Built-in trainers and data sets for small problems: digits, tables, text."""

"""What the report of an evaluation is made of: statistics, tables, words, a page."""

"""From what a user has to the numbers that a network sees; this room knows no model.

`open_source` takes an array, a DataFrame or a path and gives a `Source`, which yields `Images` or a `Table` in
chunks; a fitted `Preprocess` turns each into a float tensor, and a reconstruction back into readable units.
"""

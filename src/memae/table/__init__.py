"""Tables: a score for each row, and the columns behind it.

In the order of the data: `csv`, with `dialect` and `cells`, and `source` read files and frames into rows; `schema`
turns rows into numbers as `fit_schema` has fitted it; `networks` rebuilds them; `scoring` makes scores and
explanations of the errors. For a training, `prepare` splits the rows and `dataset` holds those that do not fit into
memory. `modality` is what the library sees of all this.
"""

"""Images: a score and an anomaly map for each image of a folder or an array.

In the order of the data: `paths` finds the images below a path; `decode` reads one file, and `source`, `arrays` and
`idx` give the samples; `preprocess` scales them, or `tiles` cuts them at their own resolution; `networks` rebuilds
them; `scoring` and `maps` make scores and anomaly maps of the errors, and `filters` has what stands beside the
errors; `predict` is one pass over a source, and `render` draws its maps. For a training, `prepare` splits the images,
`decisions` has the rules for what settings leave open, and `dataset` holds the images that do not fit into memory.
For an evaluation, `evaluate` reads labels and masks. `modality` is what the library sees of all this.
"""

"""Video: scores of frames, and events with stills, clips and overlays.

In the order of the data: `paths` finds the videos below a path; `decode` and `frame_folder` read the frames of one, and
`source` those of all; `clips` cuts them into clips; `scoring` gives a score and an anomaly map for each frame,
and `appearance` adds what stands still, from `standing` and `background`;
`pipeline` is the one pass that writes rows, events, stills, clips and overlays, with `events`, `masks`, `media`,
`render` and `encode`; `streams` scores several videos in turns, for cameras. For a training, `prepare` splits videos
and `dataset` holds their clips. For an evaluation, `ground_truth` reads labels, `evaluate` compares by `figures` and
`alarms`, and gives an `evaluation`. `modality` is what the library sees of all this.
"""

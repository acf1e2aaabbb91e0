"""Video: files and folders of frames in, scores of frames and events out."""

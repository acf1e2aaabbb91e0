"""Cameras that are watched without end: capture, scores, events while they happen, and where these are told.

`message` has what a watch tells, `sinks` has the places that it tells it to.
"""

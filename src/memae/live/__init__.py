"""Cameras that are watched without end: capture, scores, events while they happen, and where these are told.

`address` and `config` say which cameras; `capture` reads one in a thread, `packets` holds its last seconds; `watch`
scores all by one model, `events` finds events; `record` gathers video. `message` has what a watch tells, `sinks` has
the places that it tells it to.
"""

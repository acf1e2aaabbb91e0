"""Cameras that are watched without end: capture, scores, events while they happen, and where these are told.

`address` and `config` say which cameras; `capture` reads one in a thread, `packets` holds its last seconds; `camera`
is one camera of a watch and `events` finds its events; `watch` scores all by one model, `changes` keeps what people
changed; `record` gathers video. `message` has what a watch tells, `sinks` has the places that it tells it to, `page`
shows it, and `service` opens all of them together.
"""

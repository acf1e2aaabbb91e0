"""Speed, measured in one run against the same work done plainly and against what the machine can do at all."""

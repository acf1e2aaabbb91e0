"""The memories: what normality is stored in, how it is read, started and watched over."""

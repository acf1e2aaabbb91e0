"""Tables: CSV, Parquet and frames in, scores and the columns behind them out."""

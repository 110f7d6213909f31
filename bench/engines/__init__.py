"""Engine benchmark: the same readings through pandas, polars, DuckDB, Spark and Microclimate.

Modules, in the order in which a run uses them:

- ``__main__``: the command and its options
- ``input_readings``: the raw files, recorded or simulated
- ``feature_set``: metrics, windows and aggregates that every engine computes
- ``engine_list``: the engines by name
- ``worker``: runs one engine in a process of its own, stage by stage
- ``*_engine``, ``microclimate_*``: one engine each
- ``process_meter``: seconds, processor time and memory of that process and its children
- ``comparison``: values of each engine against those of ``feature-store backfill``
- ``results``: medians, the CSV and the table
- ``plot``: the picture; ``results_reader`` reads the CSV to draw it again
"""

"""The streaming query as a program of its own, to be killed: `stream_program.py FOLDER METRICS`."""

import sys
from pathlib import Path

from spark_session import new_session, start_stream

if __name__ == "__main__":
    session = new_session("microclimate stream")
    query = start_stream(session, Path(sys.argv[1]), sys.argv[2].split(","))
    query.awaitTermination()
    session.stop()

"""The folders of a project, where a command is not given others."""

from pathlib import Path

WORK = Path("work_dirs")
BOARDS = Path("leaderboards")
RECORDS = BOARDS / "records"
SEARCHES = BOARDS / "searches"

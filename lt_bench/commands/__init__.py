"""The commands of the command line: a file per command, its options beside what it does with them.

Each command has ``add(commands)``, which adds its parser with the function to call as the default of
``command``. What several of them share is in ``options``, ``device`` and ``console``. What takes long to
import is imported where a command is carried out, so that ``--help`` is quick.
"""

from lt_bench.commands import data, figure, listing, rehearse, run, score, search, show, status, sweep, table

COMMANDS = (run, search, sweep, status, score, table, figure, rehearse, data, listing, show)

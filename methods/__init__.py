"""The methods: one file a method, each with its paper, its formula and its registration.

Every module of this package is imported when a method is first looked up, so a new file needs no
entry anywhere.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

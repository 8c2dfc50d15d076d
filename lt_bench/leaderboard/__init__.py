"""From run records to tables: specifications as data, statistics over seeds, renderers."""

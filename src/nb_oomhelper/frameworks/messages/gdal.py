"""GDAL, which rasterio, Fiona and geopandas read files with: it names its own source file and line."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="gdal",
    module="rasterio",
    rules=(
        Rule("gdal.cannot", "host", r"\w\.c(?:pp)?, \d{1,6}: cannot allocate \d"),
        Rule("gdal.malloc", "host", r"\b(?:CPL|VSI)(?:Malloc|Calloc|Realloc)\(\): Out of memory allocating"),
        Rule("gdal.class", "host", "^", kind=r"\bCPLE_OutOfMemoryError$", known=True),
    ),
    fields={"requested": rf"cannot allocate (?:1x)?({SIZE})|memory allocating ({SIZE})"},
)

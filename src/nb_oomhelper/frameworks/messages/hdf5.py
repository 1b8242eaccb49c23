"""HDF5 and netCDF, below h5py, PyTables and xarray."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

MESSAGES = Messages(
    name="hdf5",
    module="h5py",
    rules=(
        Rule("hdf5.memory", "host", r"\(memory allocation failed\b|(?i:memory allocation failed for)"),
        Rule("hdf5.memory", "host", r"[Uu]nable to allocate (?:memory block|chunk|space for)"),
        Rule("netcdf.memory", "host", r"NetCDF: Memory allocation \(malloc\) failure"),
    ),
)

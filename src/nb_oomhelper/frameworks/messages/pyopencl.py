"""PyOpenCL: three of OpenCL's status codes become its MemoryError; one of them has other causes, too."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_CLASS = r"^pyopencl\."
MESSAGES = Messages(
    name="pyopencl",
    module="pyopencl",
    rules=(
        Rule("pyopencl.host", "host", "OUT_OF_HOST_MEMORY"),
        Rule("pyopencl.memory", "opencl", "MEM_OBJECT_ALLOCATION_FAILURE"),
        Rule(
            "pyopencl.code", "opencl", r"cl(?:Create|Enqueue)\w{2,40} \(-4\)"
        ),  # the code of the last one, as OpenMM has it
        Rule("pyopencl.resources", "opencl", "failed: OUT_OF_RESOURCES", kind=_CLASS, probable=True),
        Rule("pyopencl.memory", "opencl", "^", kind=r"^pyopencl\..{0,40}MemoryError$", known=True, probable=True),
    ),
)

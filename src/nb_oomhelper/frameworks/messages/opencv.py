"""OpenCV: on the host and on a GPU, told by the number of the error."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

MESSAGES = Messages(
    name="opencv",
    module="cv2",
    rules=(
        Rule("opencv.host", "host", r"\(-4:(?:Insufficient|Out of) memory\)"),
        Rule("opencv.host", "host", r"(?:error: \(-4\) |Insufficient memory \()Failed to allocate"),  # to 3.3
        # the buffer of a new matrix: what was said of it before is printed, and not in the error
        Rule("opencv.no_buffer", "host", r"\(-215[^)]{0,20}\) u != 0 in function", probable=True),
        Rule("opencv.cuda", "cuda", r"\(-217:Gpu API call\) ?(?:out of memory|CU\w{1,10}_STATUS_ALLOC_FAILED)"),
        Rule("opencv.cuda", "cuda", r"\(-217\) out of memory|Gpu API call \(out of memory\)"),
        Rule("opencv.opencl", "opencl", r"\(-220:OpenC[Ll] API call\)", "OUT_OF_|ALLOCATION_FAILURE"),
    ),
    fields={"requested": rf"Failed to allocate ({SIZE})"},
)

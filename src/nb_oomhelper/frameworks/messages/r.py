"""R inside this process (rpy2), and its logs; its Gb are 1024³ bytes."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import SIZE, Messages, Rule

_SIZE = r"\d[\d.,]{0,12} ?[KMGTPkmgt][bBo]"
_TRANSLATED = (
    "impossible d['’]allouer un vecteur de taille|[Kk]ann Vektor der Größe|no se puede ubicar un vector de tamaño"
    "|não é possível alocar vetor de tamanho|无法分配大小为"
)
MESSAGES = Messages(
    name="R",
    module="rpy2",
    rules=(
        Rule("r.vector", "host", rf"(?i:can(?: ?not){{1,2}} al{{2,3}}ocate vector of size) ?{_SIZE}"),
        Rule("r.vector", "host", rf"(?:{_TRANSLATED}) ?{_SIZE}"),
        Rule("r.block", "host", r"cannot allocate memory block of size \d[\d.]{0,20} ?[KMGTP]b"),
        # its own limit: on macOS the size of the machine's memory, where nothing else is set
        Rule("r.limit", "host", r"memory exhausted \(limit reached\?\)"),
        Rule("r.limit", "host", r"vector memory limit of \d[\d.]{0,12} ?[KMGTP]b reached"),
    ),
    fields={
        "requested": rf"(?:(?:vector|memory block) of size|{_TRANSLATED}) ?((?i:{SIZE})|{_SIZE})",
        "limit": rf"memory limit of ((?i:{SIZE})) reached",
    },
)

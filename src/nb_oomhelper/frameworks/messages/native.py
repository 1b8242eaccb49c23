"""C++ on the host, below Python: what extensions pass on of an allocation that failed."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

# What the C library says of ENOMEM in other languages.
_ENOMEM = "|".join(
    (
        "无法分配内存",
        "無法(?:配置|分配)記憶體",
        "Nicht genügend Hauptspeicher verfügbar",
        "Impossible d[’']allouer (?:de )?la mémoire",
        "No se pudo asignar (?:la )?memoria",
        "Não foi possível alocar memória",
        "Impossibile allocare (?:la )?memoria",
        "Невозможно выделить память",
        "Не уда[её]тся выделить память",
        "メモリを(?:確保|割り当て)(?:する(?:こと)?が)?でき(?:ない|ません)",
        "메모리를 할당할 수 (?:없습니다|없음)",
    )
)
MESSAGES = Messages(
    name="python",
    module="",
    rules=(
        Rule(
            "python.carried", "host", r"Error sending result: .{1,4000} Reason: ['\"]MemoryError\("
        ),  # multiprocessing
        Rule(  # joblib's report of a worker's error, to 0.11
            "python.carried",
            "host",
            r"\bMemoryError (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{1,2} [\d:]{8} \d{4} PID: \d",
            remote="process pool",
        ),
        Rule("cpp.bad_alloc", "host", r"^(?:MemoryError: )?(?:std::)?bad[_ ]alloc(?:ation)?\.?$"),
        Rule("cpp.bad_alloc", "host", r"\bstd::bad_alloc\b", without="(?i:cuda|rmm|gpu|device|hip)", probable=True),
        Rule("go.memory", "host", r"\bruntime: (?:out of memory|cannot allocate memory)", remote="command"),
        # what the system says, passed on
        Rule("cpp.enomem", "host", r"(?<!^\[Errno 12\] )\bCannot allocate memory\b", probable=True),
        Rule("cpp.enomem", "host", _ENOMEM, probable=True),
        Rule("gc.heap", "host", "Too many heap sections: Increase MAXHINCR"),  # Boehm's collector
        Rule("dotnet.memory", "host", r"\bSystem\.(?:OutOf|Insufficient)MemoryException\b", remote="command"),
        Rule(
            "dotnet.memory",
            "host",
            "^",
            kind=r"^System\.(?:OutOf|Insufficient)MemoryException$",
            known=True,
            remote="command",
        ),
        Rule("sdl.memory", "host", "^Out of memory$", kind=r"^pygame\.", known=True),
        Rule("sdl.memory", "host", r"\bpygame\.error: Out of memory"),
        Rule("host.word", "host", r"(?i:^out of (?:CPU|host|system|main) memory\b)", probable=True),
        Rule("host.word", "host", r"ran out of (?:CPU|host|system|main) memory", probable=True),
        Rule("macos.malloc", "host", r"malloc: (?:\\?\*){3} \w{4,20}\(size=\d{1,20}\) failed"),
    ),
    fields={"requested": r"malloc: (?:\\?\*){3} \w{4,20}\(size=(\d{1,20})\)|cannot allocate (\d{1,20})-byte block"},
)

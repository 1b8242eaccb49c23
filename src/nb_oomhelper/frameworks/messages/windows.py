"""Windows: too little that can be committed. The number tells it, or the sentence, which Windows translates."""

from __future__ import annotations

from nb_oomhelper.frameworks._messages import Messages, Rule

_SENTENCES = (
    "paging file is too small",
    "页面文件太小",
    "分頁檔太小",
    "Auslagerungsdatei ist zu klein",
    "fichier de pagination est insuffisant",
    "archivo de paginación es demasiado pequeño",
    "arquivo de paginação é muito pequeno",
    "ficheiro de paginação é demasiado pequeno",
    "file di paging è troppo piccolo",
    "File di paging troppo piccolo",
    "Файл подкачки слишком мал",
    "файл подкачки слишком мал",
    "ページング ?ファイルが小さすぎる",
    "페이징 파일이 너무 작",
    "Plik stronicowania jest za mały",
    "wisselbestand is te klein",
    "Disk belleği dosyası",
)
_NUMBER = r"(?:WinError |os error |[Ee]rrno[ =]|GetLastError\(|error code: ?<|error code[:=]? ?|[Ee]rror )"
MESSAGES = Messages(
    name="windows",
    module="",
    rules=(
        Rule("win.1455", "host", rf"{_NUMBER}1455\b"),  # ERROR_COMMITMENT_LIMIT
        Rule("win.1455", "host", "|".join(_SENTENCES)),
        # ERROR_NOT_ENOUGH_MEMORY and ERROR_OUTOFMEMORY: Windows's own pools, too
        Rule("win.memory", "host", r"\bWinError (?:8|14)\]", probable=True),
        Rule("win.memory", "host", r"Not enough memory resources are available to process", probable=True),
    ),
)

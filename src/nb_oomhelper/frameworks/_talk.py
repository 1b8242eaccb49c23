"""What only speaks of an error: advice, questions, pages of help, a title of what was mended.

The words of an error are the same there; the words around them tell it: what somebody does about it, what may come at
any time, whom it happens to. What a first person tells has happened.
"""

from __future__ import annotations

import re

_AROUND = 160  # characters that are read on either side
# What stands between: what an author puts around a quotation, and a class before its message
_QUOTE = r"[ \"'`“„«「『(*_]{0,4}(?:[\w.]{0,80}(?:Error|Exception): ?)?(?:[A-Z]{2,5} (?:error: ?)?)?$"
_FILLING = (
    r"(?: (?:an?|any|the|this|that|these|those|such|your|all|getting|possible|potential|common|with|of|about|from"
    r"|errors?|exceptions?|issues?|problems?|messages?|like|GPU|CUDA|Python)\b){0,5}"
)
_OFTEN = r"(?:also|often|usually|typically|frequently|commonly|sometimes|still|then|even|only|not|always|easily|likely)"
_MEET = r"(?:sees?|gets?|getting|hits?|faces?|encounter(?:s|ed)?|receives?|experiences?|runs? into|meets?)"
_TOLD = r"(?:errors?|exceptions?|warnings?|failures?|logs?|outputs?|messages?)"
_BEFORE = re.compile(  # whoever says it
    # what somebody does about it
    r"(?i:\b(?:(?:avoid|prevent|fix|troubleshoot|catch|understand)(?:s|es|ed|ing)?"
    r"|(?:solv|resolv|mitigat|overcom|eliminat|simulat)(?:e|es|ed|ing)|to handle|handles|handling|ignor(?:e|ing)"
    r"|run(?:ning)? into|(?:what|case|event) (?:is|are|of)|does|instead of:?|rather than|about|throwing|raising)"
    rf"\b{_FILLING}"
    r"|\b(?:to|will|not|should|must|S:) (?:raise|throw)(?: an?)?|\bprint\(f?"
    # words that are quoted
    rf"|\b{_TOLD}(?: \w{{1,12}}){{0,2}} (?:like|such as|similar to|called|named){_FILLING}:?"
    rf"|\byour (?:\w{{1,12}} ){{0,2}}{_TOLD}(?: \w{{1,12}}){{0,2}} (?:states?|says?|shows?|means?|indicates?)(?: that)?"
    rf"|\breading|\bposts?\b[^.!?;]{{0,60}} about[^.!?;]{{0,60}}){_QUOTE}"
)
_GENERAL = re.compile(  # what may come, and whom it happens to
    rf"(?i:\b(?:can|may|might|could|would)(?: {_OFTEN}){{0,2}} (?:be|trigger|cause|result in|lead to|raise|throw"
    r"|(?:fail|crash|die|exit) with|give|produce|show|return|report|see|hit|get|encounter|yield|end in)\b"
    r"[^.!?:;]{0,40}?"
    r"|\b(?:if|unless|whenever|once|in case) (?:you|they|there is|there are|the \w{1,20}|it)\b[^.!?:;,]{0,40}?"
    rf"|\byou(?:['’]ll|['’]d| will)(?: {_OFTEN}){{0,2}} {_MEET}\b[^.!?:;]{{0,30}}?"
    rf"|\b(?:developers|users|people|students|beginners|customers|they)\b[^.!?:;]{{0,60}}? {_MEET}\b[^.!?;]{{0,60}}?"
    rf"){_QUOTE}"
)
_AFTER = re.compile(
    r"(?i:(?:\.{2,3}|…)?[\"'`”»」』)*_]{0,4},?(?: ?\(?OOM\)?)?"
    r"(?: (?:errors?|exceptions?|issues?|problems?|messages?|failures?|conditions?|status)\b[\"'`”]?){0,2}"
    r"(?: in \w{1,20})? ?(?:"
    r"(?:occurs?|happens?|arises?|means|indicates?|usually|typically|often|generally|commonly)\b"
    r"|(?:can|may|might|could|would|should)\b(?! ?not| be (?:allocated|found))"
    rf"|(?:is|are)(?: {_OFTEN})? (?:raised|thrown|caused|the same|one of|an? (?:common|frequent|classic|typical))\b"
    r"|when (?:you|your|there)\b|[–—] |.{0,60}?という(?:エラー|メッセージ)"
    r"|.{0,30}?(?:\bX{3,}\b|<(?:size|bytes?|n)>|%[dsu]\b|\{\w{0,20}\} bytes))"  # where figures go
    r"|(?: errors| issues| problems)\b| error ?(?:--|[–—])|\.?[\"'] in\b(?! http))"
)
_TELLER = re.compile(r"\b(?:I|we|We|me|us)\b[^.!?]{0,120}$")


def is_spoken_of(before: str, after: str) -> bool:
    """Whether the words of an error stand in a sentence about it.

    Args:
        before: What stands before them.
        after: What stands after them; both on one line.
    """
    if _AFTER.match(after[:_AROUND]):
        return True
    before = before[-_AROUND:]
    return bool(_BEFORE.search(before) or (_GENERAL.search(before) and not _TELLER.search(before)))

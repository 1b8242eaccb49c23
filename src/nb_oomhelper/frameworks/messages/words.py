"""What programs without rules of their own say of an allocation that failed, in the words that most of them use.

Words alone are also talk: without an error's class they count only where a program's error would have them, right
after a colon, a bracket or the word error. Nothing here is ever sure.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nb_oomhelper.frameworks._messages import SIZE, Match, Messages, Rule, event_of, read_fields, squeeze
from nb_oomhelper.records.event import OomEvent

_WORDS = (
    r"(?:failed|unable|not able|(?:can|could)(?: ?not|n't))(?: to)? (?:re-?)?(?:allocate|alloc|malloc|reserve)\b"
    r"(?! shared).{0,60}?(?:\b(?:memory|bytes?|RAM)\b(?! per)|\d ?[KMGT]i?B\b)"
    r"|(?:(?:virtual|system|host|GPU|device) )?(?:ran )?out of (?:the )?(?:(?:GPU|device|video) )?memory\b"
    r"(?! (?:errors?|exceptions?|handling|killer|issues?|problems?|conditions?|situations?|or|bounds|access)\b)"
    r"|(?:not enough|insufficient) (?:(?:free|available|system|virtual|host) )?(?:memory|RAM)\b(?! bandwidth)"
    r"|memory allocation (?:has )?(?:failed|failure|error)\b|(?:virtual )?memory exhausted"
    r"|bad[_ ]alloc(?:ation)?\b(?! (?:strategy|size|policy))|[mc]alloc\(?\)? failed|realloc\(?\)? failed"
    r"|(?:exceeded|over) (?:the )?memory limit|memory limit exceeded"
)
_RAISED = re.compile(rf"(?i:{_WORDS})|\bOOM\b(?! score)")
_PRINTED = re.compile(
    rf"(?i:(?:^|[:\]>]['\"`( ]{{1,3}}|\b(?:error|fatal) )(?P<words>{_WORDS}|\w{{0,40}}MemoryError\([)'\"]))"
)
_QUICK = re.compile(r"[Mm]emory|MEMORY|alloc|RAM\b|OOM\b")  # what all of them have
_OTHER = re.compile(  # another memory, or no failure
    r"(?i:static TLS|shared memory|shm\b|pinned|from device|with OOM on device|indicates that|is(?: not a|n't a| no)"
    r" failure|address.space|maxmemory|disk|swap|stack|memory slots?)"
)
_NO_STATEMENT = re.compile(
    r"(?i:\b(?:warn\w{0,4}|info|debug|note|hint|tip|title|if|when|in case|case of|possibly|run|runs|running|go|goes"
    r"|going|be|an?|the|of|for|from|avoid|causes?|may|might|could|prevents?|like|as|gets?|getting|or|and|without)\W{1,3}"
    r"|\[Errno 12\] |\b(?:if|in case|what to do)\b[^.!?]{0,40})$"
)
_GPU = re.compile(r"(?i:gpu|cuda|vram|\bhip|device memory|video memory)")
_OF_CODE = re.compile(  # a command's error quotes the command
    r"(?:CalledProcess|Type|Assertion|NotImplemented|Recursion|FileNotFound|Unicode\w{2,9})Error$|Warning$"
)
_HOST = Rule("words.host", "host", _WORDS, probable=True)
_DEVICE = Rule("words.device", "cuda", _WORDS, probable=True)


class _Words(Messages):
    """Reads words where they stand as an error's, and takes the memory from what is said around them."""

    def recognize(self, text: str, exception_type: str) -> OomEvent | None:
        words = squeeze(text)
        if _OF_CODE.search(exception_type) or not _QUICK.search(words):
            return None
        said = [*(_RAISED if exception_type else _PRINTED).finditer(words)]
        for one in reversed(said[-50:]):
            begin = one.start() if exception_type else one.start("words")
            before, window = words[max(0, begin - 150) : begin], words[begin : begin + 300]
            if _OTHER.search(before[-60:] + window[:200]) or _NO_STATEMENT.search(before):
                continue
            rule = _DEVICE if _GPU.search(before[-60:] + window[:80]) else _HOST
            event = event_of(
                self.name, Match(rule, window, before), text, exception_type, read_fields(self.fields, window)
            )
            return replace(event, framework="cuda") if rule is _DEVICE else event
        return None


MESSAGES = _Words(
    name="python",
    module="",
    rules=(_HOST, _DEVICE),
    fields={"requested": rf"^.{{0,40}}?(?:allocate|alloc|malloc|reserve|allocating)\D{{0,25}}({SIZE})"},
)

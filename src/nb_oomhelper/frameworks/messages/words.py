"""What programs without rules of their own say of an allocation that failed, in the words that most of them use.

Words alone are also talk: without an error's class they count only where a program's error would have them: at the
beginning of a line, right after a colon, a bracket or the word error, or as the reason of a failure. A constant's name
tells by itself. Nothing here is ever sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from nb_oomhelper.frameworks._messages import SIZE, Match, Messages, Rule, event_of, line_starts, read_fields, squeeze
from nb_oomhelper.frameworks._talk import is_spoken_of
from nb_oomhelper.records.event import OomEvent

# No verb could, a thing to have; or a thing, and what became of it.
_CANNOT = r"(?:fail(?:ed|ure|s)?|unable|not able|(?:can|could)(?: ?not|n['’]t)|can['’]t)(?: to)?"
_GET = r"(?:re-?)?(?:allocate|alloc|malloc|calloc|reserve)\b|error allocating\b"
_THING = (
    r"memory|bytes?|v?ram|buffers?|arrays?|tensors?|textures?|matri(?:x|ces)|vectors?|images?|workspace|pages?|\[\d{4}"
)
_WHOSE = r"(?:(?:free|enough|available|system|virtual|physical|main|host|CPU|GPU|CUDA|video|graphics|device) ){0,2}"
_MEMORY = rf"{_WHOSE}(?:memory|v?ram)\b"
_NO_NAME = (  # what is spoken of, and did not happen here
    r"(?! (?:errors?(?! (?:caused|occurred|while|at)\b)|exceptions?|handling|killer|issues?|problems?|conditions?"
    r"|situations?|or|bounds|access|occurs|means|indicates)\b)(?! ?[–—])"
)
_WORDS = (
    rf"(?:{_CANNOT} {_GET}|error allocating)(?! shared).{{0,60}}?(?:\b(?:{_THING})(?![^\W_])(?! per)|\d ?[KMGT]i?B\b)"
    rf"|{_CANNOT} (?:extend|expand|grow|enlarge) (?:the )?(?:heap|workspace|memory|buffer|pool)\b"
    r"|allocation of (?:size )?\W{0,4}\d[\d.,]{0,20}(?: \w{1,10}){0,3} (?:has )?failed\b"
    rf"|{_CANNOT} (?:m?map|commit|obtain|acquire|grab) .{{0,30}}?(?:\b(?:{_MEMORY})(?! (?:info|usage|stat|map|region))"
    r"|\bbytes\b|\d ?[KMGT]i?B\b)"
    rf"|(?:you )?(?:ran )?out[ -]of[ -](?:the )?(?:{_MEMORY}|mem\b){_NO_NAME}"
    rf"|(?:there is )?(?:not enough|insufficient|shortage of|lack of|no more) {_MEMORY}(?! bandwidth)"
    rf"|{_MEMORY} (?:is |was )?(?:exhausted|insufficient|not (?:available to|sufficient|enough))\b"
    rf"|(?:{_MEMORY}|object|buffer|tensor|page|array) allocation (?:has )?(?:failed|failure|error)\b"
    rf"|\bexhausted (?:all )?(?:the )?(?:available )?{_MEMORY}|exceeds (?:the )?{_MEMORY}"
    rf"|(?:do(?:es)?|did|will|would)(?: not|n['’]t) fit (?:in|into|on) (?:the )?{_MEMORY}"
    rf"|(?:need(?:s|ed)?|require[sd]?|requested) (?:\w{{1,12}} ){{0,4}}?{SIZE}.{{0,30}}? only {SIZE}"
    r"[^.]{0,20} (?:available|free)\b"
    r"|bad[_ ]alloc(?:ation)?\b(?! (?:strategy|size|policy))|\b(?:[mc]|re)alloc\(?\)? failed"
    r"|(?:exceed(?:ed|s)|over|reached|hit) (?:(?:the|its|available|pre-?set|maximum) ){0,2}memory limit"
    r"|(?:allowed )?memory (?:limit|size)(?: \(.{1,20}\)| of \d{1,20} ?\w{1,5})? (?:was |is )?(?:exceeded|exhausted)\b"
    r"|(?:got|hit|caught) (?:an )?OOM\b"
)
_CONSTANT = (  # a status by its name
    r"\b(?:[A-Z\d]{1,12}_){1,6}OUT_?OF_?(?:[A-Z]{2,8}_)?MEMORY\b"
    r"|\bE_OUTOFMEMORY\b"
    r"|\b(?:[a-z]\w{0,20}Error)?OutOf(?:Device|Host|Video|GPU)Memory\b"
)
_BEGIN = r"(?<![A-Za-z\d_])"  # right after a Chinese character, too
_SAID = re.compile(rf"{_BEGIN}(?:(?P<constant>{_CONSTANT})|(?i:{_WORDS}))")
_RAISED = re.compile(rf"{_BEGIN}(?:(?P<constant>{_CONSTANT})|(?i:{_WORDS})|OOM\b(?! score))")
_QUOTED = re.compile(  # an error's repr
    r"(?:^[`'\"*]{0,3}|[:\]>]['\"`( ]{1,3}|(?i:\berror|\bfatal) )\w{0,40}(MemoryError)\([)'\"]"
)
# what all of them have
_QUICK = re.compile(r"[Mm]emory|MEMORY|alloc|(?i:v?ram\b)|OOM\b|(?:extend|expand|grow|enlarge) the")
_LACK = re.compile(  # what all of them have, too, and few lines of a log
    rf"(?i:{_BEGIN}(?:fail|unable|not (?:able|enough|avail|suff)|(?:can|could)(?: ?not|n['’]t)|can['’]t|error|out"
    r"|insuff|shortage|lack|no more|is not|need|requir|request|doesn?|did|will|would|exhaust|exceed|over|reached|hit"
    r"|got|caught|bad[_ ]alloc|oom\b))|OUT_?OF|OutOf|E_OUT"
)
_PLACE = re.compile(  # where an error's words stand, in a log
    r"(?i:(?:(?:[:\]>]|\bmessages? (?:of|was|is|says?|saying))['\"`( ]{1,3}"
    r"|(?:：|报错|[爆抛]出|错误|ошибк\w{1,3}|エラー)[-:： '\"`]{0,4}"
    r"|\b(?:error|fatal),? |(?:\b(?:error|critical|fatal)|:\d{1,6}\)?) - "
    r"|\b(?:err|error|msg)=['\"]?|\*{3} |\b\w{0,40}alloc\w{0,20} "
    r"|\b(?:failed|failure|unsuccessful|abort(?:ed)?|killed|crashed|terminated) \("
    r"|\b(?:failed|failure|unsuccessful|aborted|killed|crashed|terminated|rejected)\b[^.!?]{0,60}"
    r"\b(?:because|due to|caused by)\b[^.!?]{0,12}"
    r"|\b(?:can(?: ?not|['’]t)|could(?: ?not|n['’]t)|unable to) (?:load|open|read|create|start) \S{1,60} "
    r"(?:because|due to)\b[^.!?]{0,16})(?:(?:CUDA|GPU|HIP|XPU|NPU|TPU|device) )?)$"
)
_LEVEL = re.compile(r"\b(?:ERROR|FATAL|CRITICAL)\b\W{1,3}(?:\S{1,40} ){1,3}$")  # of a log, and who says it
_OTHER = re.compile(  # another memory, or no failure
    r"(?i:static TLS|shared memory|shm\b|pinned|from device|with OOM on device|indicates that th(?:ere|is)"
    r"|is(?: not a|n't a| no) failure|\band retrying\b|address.space|maxmemory|\bdisk|swap|\bstack\b(?! ?trace)"
    r"|memory slots?)"
)
_NO_STATEMENT = re.compile(
    r"(?i:\b(?:warn\w{0,4}|info|debug|note|hint|tip|title|if|when|in case|case of|possibly|run|runs|running|go|goes"
    r"|going|be|an?|the|(?<!message )of|for|from|avoid|causes?|may|might|could|prevents?|like|as|gets?|getting|or|and"
    r"|without)\W{1,3}"
    r"|\[Errno 12\] |\b(?:if|in case|what to do)\b[^.!?]{0,40})$"
)
_IN_CODE = re.compile(r"(?:[=!]= ?|\b(?:case|return|throw|define|const|if|when|or|and|like|except|catch) )\W{0,2}$")
_OF_HOST = re.compile(r"(?i:\b(?:host|system|cpu|main|physical|virtual) (?:memory|ram)|OUT_?OF_?HOST)")
_DEVICES = (  # whose words stand around, the closest kin first
    ("hip", re.compile(r"(?i:\bhip|rocm|miopen)")),
    ("vulkan", re.compile(r"(?i:vulkan|\bvk)")),
    ("opencl", re.compile(r"(?i:opencl|\bcl_)")),
    ("cuda", re.compile(r"(?i:gpu|cuda|nvenc|\bnv_|vram|[显顯]存|(?:device|video|graphics)[ _]?memory)")),
    ("other", re.compile(r"(?i:webgl|opengl|\bgl_|direct3d|directml|\bdml|\bdxgi|texture|\bnpu|\bxpu|\btpu)")),
)
_FILE = re.compile(r"/cuda/|\.cuh?\b")  # of CUDA's code, a little further on
_OF_CODE = re.compile(  # a command's error quotes the command
    r"(?:CalledProcess|Type|Assertion|NotImplemented|Recursion|FileNotFound|Unicode\w{2,9})Error$|Warning$"
)
# The same in other languages. A Chinese sentence has no place of its own for it: verbs before it tell that it came.
_ELSEWHERE = re.compile(
    r"(?:[显顯内]存|記憶體)(?:资源|已){0,2}(?:不足|不够|溢出|耗尽|用尽|爆了)|爆(?:了)?[显顯内]存"
    r"|メモリ(?:ー)?(?:が)?(?:不足|足りません)|메모리(?:가)? ?부족"
    r"|(?i:недостаточно (?:видео|оперативной )?памяти|не хватает (?:видео)?памяти|нехватка памяти"
    r"|(?:nicht genügend|zu wenig) (?:arbeits|haupt)?speicher|mémoire insuffisante|memoria insuficiente"
    r"|memória insuficiente|memoria insufficiente)"
)
_CAME = re.compile(r"(?:报错?|报了|提示|显示|出现|错误|崩溃|必定|总是|一直|直接|[Ee]rror|分配)[^。！？；，]{0,10}$")
_WOULD = re.compile(r"(?:如果|若|可能|会|避免|防止|解决|应该|是不是|是否)[^。！？；，]{0,8}$")
_ASKED = re.compile(r"(?:怎么办|的问题|的情况|的话|时|吗|導致?的)")
_AROUND = 120  # characters that the longest of the words have before or after the one of lack
_KEYS = 400  # words of lack that are looked at, the last ones
_HOST = Rule("words.host", "host", _WORDS, probable=True)
_DEVICE = Rule("words.device", "cuda", _WORDS, probable=True)


def _find(pattern: re.Pattern[str], words: str) -> Iterator[re.Match[str]]:
    """What a pattern finds around words of lack: to try it everywhere takes long."""
    end = 0
    for key in [*_LACK.finditer(words)][-_KEYS:]:
        if key.end() <= end:
            continue
        begin, reach = max(end, key.start() - _AROUND), key.end() + _AROUND
        for found in pattern.finditer(words, begin, reach):
            end = found.end()
            yield found
        end = max(end, key.end())


def _elsewhere(words: str, text: str) -> int | None:
    """Where another language's words of it begin, if a program or somebody says that it came."""
    for found in [*_ELSEWHERE.finditer(words)][:-_KEYS:-1]:
        before, after = words[max(0, found.start() - 40) : found.start()], words[found.end() : found.end() + 10]
        said = not before or found.start() in line_starts(text) or _PLACE.search(before) or _CAME.search(before)
        if said and not _WOULD.search(before) and not _ASKED.match(after):
            return found.start()
    return None


class _Words(Messages):
    """Reads words where they stand as an error's, and takes the memory from what is said around them."""

    def recognize(self, text: str, exception_type: str) -> OomEvent | None:
        words = squeeze(text)
        if _OF_CODE.search(exception_type) or not (_QUICK.search(words) or _ELSEWHERE.search(words)):
            return None
        said = [*_find(_RAISED if exception_type else _SAID, words)][-50:]
        starts = frozenset() if exception_type or not said else line_starts(text)
        for one in reversed(said):
            if self._is_statement(one, words, starts, exception_type):
                return self._event(one.start(), words, text, exception_type)
        quoted = None if exception_type else _QUOTED.search(words)
        begin = _elsewhere(words, text) if quoted is None else quoted.start(1)
        return None if begin is None else self._event(begin, words, text, exception_type)

    def _is_statement(self, said: re.Match[str], words: str, starts: frozenset[int], exception_type: str) -> bool:
        """Whether a program says it of itself, there."""
        begin = said.start()
        before = words[max(0, begin - 150) : begin]
        if _OTHER.search(before[-60:] + words[begin : begin + 100]):
            return False
        if said["constant"]:
            return not (_IN_CODE.search(before) or is_spoken_of(before, words[said.end() : said.end() + 100]))
        if begin in starts and said[0][0].isupper():
            return True
        if _NO_STATEMENT.search(before) or is_spoken_of(before, words[said.end() : said.end() + 100]):
            return False
        return bool(exception_type or not before or _PLACE.search(before) or _LEVEL.search(before))

    def _event(self, begin: int, words: str, text: str, exception_type: str) -> OomEvent:
        before, window = words[max(0, begin - 150) : begin], words[begin : begin + 300]
        said = before[-60:] + window[:80]
        backend = next((backend for backend, of in _DEVICES if of.search(said)), "host")
        backend = "cuda" if backend == "host" and _FILE.search(window[:200]) else backend
        rule = _HOST if backend == "host" or _OF_HOST.search(window[:80]) else replace(_DEVICE, backend=backend)
        match = Match(rule, window, before)
        fields = read_fields(self.fields, window) or read_fields(self.fields, before[-100:])
        event = event_of(self.name, match, text, exception_type, fields)
        return replace(event, framework="cuda") if rule.backend == "cuda" else event


MESSAGES = _Words(
    name="python",
    module="",
    rules=(_HOST, _DEVICE),
    fields={
        "requested": rf"^.{{0,60}}?(?:allocate|alloc|malloc|reserve|allocating)\D{{0,25}}({SIZE})"
        r"|^.{0,40}?allocate memory of size (\d{4,20})\b"
        r"|^.{0,40}?(?:allocate buffer: |allocation of size :{0,2})(\d{4,20})",
        "limit": rf"^(?i:allowed )?memory (?:size|limit) of ({SIZE})",
    },
)

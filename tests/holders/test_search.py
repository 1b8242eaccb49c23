"""Who keeps memory: real arrays and tensors behind all sorts of references, and objects that must not be touched."""

from __future__ import annotations

import collections
import functools
import gc
import itertools
import operator
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from nb_oomhelper.failure import retained
from nb_oomhelper.failure.exception_graph import raised_with
from nb_oomhelper.frameworks import _numpy, _pytorch
from nb_oomhelper.holders import walk
from nb_oomhelper.holders.scope import Scope, is_result
from nb_oomhelper.holders.search import find_holdings
from nb_oomhelper.introspection import living, living_takes, with_subclasses
from nb_oomhelper.records.holdings import Holding, Holdings
from tests.shells import in_shell

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.plain

MIB = 1 << 20


def array(mebibytes: int = 1) -> Any:
    return np.zeros(mebibytes * MIB, dtype=np.uint8)


def find(
    variables: Mapping[str, object] | None = None,
    *,
    results: Mapping[int, object] | None = None,
    error: BaseException | None = None,
    barred: tuple[object, ...] = (),
    seconds: float = 60.0,
    backend: str = "host",
    device: int | None = None,
    everywhere: bool = False,
    objects: bool = True,
) -> Holdings:
    frames = retained.frames_of(one for one, _ in raised_with(error)) if error else ()
    scope = Scope(variables=variables or {}, results=results or {}, frames=frames, barred=barred)
    tracers: Any = (_pytorch, _numpy)
    return find_holdings(
        scope, tracers, backend=backend, device=device, seconds=seconds, everywhere=everywhere, objects=objects
    )


def table(found: Holdings) -> dict[str, tuple[int, int]]:
    """Mebibytes that each row keeps alone, and with others."""
    assert all(row.own % MIB == row.shared % MIB == 0 for row in found.rows)
    return {row.name: (row.own // MIB, row.shared // MIB) for row in found.rows}


def catch(call: Callable[[], object]) -> BaseException:
    """The exception that a call raises, without this frame, which holds the test's own objects."""
    try:
        call()
    except Exception as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    raise AssertionError("did not fail")


# -- bytes: whose, and whose alone -----------------------------------------------------------------------------------


class TestBytes:
    def test_views_count_once(self) -> None:
        whole = array(4)
        found = find({"views": [whole[:10], whole[MIB:], whole.reshape(4, -1), memoryview(b"")]})
        assert table(found) == {"views": (4, 0)}
        assert found.rows[0].count == 1

    def test_a_view_elsewhere_shares_the_whole(self) -> None:
        whole = torch.zeros(4 * MIB, dtype=torch.uint8)
        found = find({"whole": whole, "part": whole[5:7], "alone": torch.zeros(MIB, dtype=torch.uint8)})
        assert table(found) == {"alone": (1, 0), "whole": (0, 4), "part": (0, 4)}
        assert found.shares == (((0,), MIB), ((1, 2), 4 * MIB))

    def test_torch_and_numpy_on_the_same_memory(self) -> None:
        owner = array(4)
        found = find({"owner": owner, "tensor": torch.from_numpy(owner)})
        assert table(found) == {"owner": (0, 4), "tensor": (0, 4)}
        assert find({"both": (owner, torch.from_numpy(owner))}).rows[0].own == 4 * MIB

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_two_sizes_of_one_storage_the_larger_is_right(self, order: int) -> None:
        owner = array(4)
        names = {"owner": owner, "start": torch.from_numpy(owner[:MIB])}
        found = find(dict(list(names.items())[::order]))
        assert table(found) == {"owner": (0, 4), "start": (0, 4)}
        assert found.freed_by(frozenset({0, 1})) == 4 * MIB

    def test_freed_by_counts_what_goes_only_with_all_its_holders(self) -> None:
        one, two, three = array(1), array(2), array(4)
        found = find({"a": [one, two, three], "b": [two, three], "c": three, "d": array(8)})
        place = {row.name: index for index, row in enumerate(found.rows)}

        def freed(names: str) -> int:
            return found.freed_by(frozenset(place[name] for name in names)) // MIB

        assert [freed(names) for names in ("", "a", "b", "d", "ab", "bc", "abc", "abcd")] == [0, 1, 0, 8, 3, 0, 7, 15]
        assert [row.name for row in found.rows] == ["d", "a", "b", "c"]  # the most of its own first

    def test_another_backend_or_device_is_left_out(self) -> None:
        assert find({"x": array()}, backend="cuda").rows == ()
        assert find({"x": torch.zeros(MIB)}, device=3).rows == ()

    def test_nothing_to_find(self) -> None:
        found = find({"a": 1, "b": "text", "c": None, "d": [1, 2], "e": sys})
        assert found.rows == ()
        assert (found.complete, found.searched, found.total) == (True, 1, 1)


# -- rows: what they are called --------------------------------------------------------------------------------------


class TestRows:
    def test_variables(self) -> None:
        layer = torch.nn.Linear(512, 1024, bias=False)
        sgd = torch.optim.SGD(layer.parameters())
        rows = {row.name: row for row in find({"layer": layer, "sgd": sgd, "x": array(), "t": torch.zeros(3)}).rows}
        assert rows["layer"] == Holding(
            name="layer",
            kind="variable",
            backend="host",
            shared=2 * MIB,
            count=1,
            parts=(("parameters", 2 * MIB),),
            shapes=("float32 (1024, 512)",),
            dtypes=(("float32", 2 * MIB),),
            type_name="Linear",
            role="model",
        )
        assert (rows["sgd"].role, rows["sgd"].shared) == ("optimizer", 2 * MIB)
        assert (rows["x"].role, rows["x"].type_name) == ("array", "ndarray")
        assert (rows["t"].role, rows["t"].own) == ("tensor", 12)

    def test_displayed_results(self) -> None:
        thing = array(2)
        found = find({"x": thing}, results={3: thing, 12: {"deep": [array(1)]}})
        assert table(found) == {"Out[12]": (1, 0), "Out[3]": (0, 2), "x": (0, 2)}
        assert [row.kind for row in found.rows] == ["output_history", "output_history", "variable"]

    def test_a_failed_cell_is_one_row(self) -> None:
        def outer() -> None:
            batch = array(2)
            inner(batch[:5])

        def inner(given: Any) -> None:
            small, large = array(1), array(4)
            raise MemoryError(str(given is small is large))

        error = catch(outer)
        (row,) = find({"unrelated": 1}, error=error).rows
        assert (row.kind, row.own, row.count) == ("failed_cell", 7 * MIB, 3)
        assert (row.name, row.function) == (
            "large, small",
            "inner",
        )  # `batch` brought fewer bytes, and stands elsewhere
        assert row.line == error.__traceback__.tb_next.tb_lineno  # type: ignore[union-attr]

    def test_what_is_passed_on_has_the_name_of_the_outermost(self) -> None:
        def outer() -> None:
            batch = array(2)
            inner(batch)

        def inner(given: Any) -> None:
            raise MemoryError(len(given))

        (row,) = find(error=catch(outer)).rows
        assert (row.name, row.function) == ("batch", "outer")

    def test_it_is_named_after_what_it_keeps_alone(self) -> None:
        def train(model: Any) -> None:
            activations = array(1)
            raise MemoryError(len(model) + len(activations))

        model = array(8)
        found = find({"model": model}, error=catch(lambda: train(model)))
        assert table(found) == {"activations": (1, 8), "model": (0, 8)}
        assert found.rows[0].function == "train"

    def test_names_are_at_most_three_and_each_once(self) -> None:
        def step(n: int) -> None:
            a, b, c, d = array(4), array(3), array(2), array(1)
            if not n:
                raise MemoryError(str(a is b is c is d))
            step(n - 1)

        (row,) = find(error=catch(lambda: step(1))).rows
        assert (row.name, row.own) == ("a, b, c", 20 * MIB)

    def test_causes_contexts_and_groups(self) -> None:
        def fail(value: Any) -> None:
            raise MemoryError(len(value))

        def wrapped() -> None:
            try:
                fail(array(1))
            except MemoryError as error:
                raise ValueError from error

        def handled() -> None:
            try:
                fail(array(2))
            except MemoryError:
                raise KeyError from None

        errors = [catch(wrapped), catch(handled)]
        (row,) = find(error=ExceptionGroup("two", errors)).rows  # type: ignore[type-var]
        assert (row.name, row.own) == ("value", 3 * MIB)

    def test_top_level_names_are_the_variables_not_the_failed_cell(self) -> None:
        space: dict[str, Any] = {"array": array, "__name__": "__main__"}
        error = catch(functools.partial(exec, compile("x = array()\n1 / 0", "<cell>", "exec"), space))
        assert [row.kind for row in find({"x": space["x"]}, error=error).rows] == ["variable"]

    @pytest.mark.parametrize("owner", ["IPython.core.x", "ipykernel", "nb_oomhelper.case"])
    def test_frames_of_the_shell_and_our_own_are_left_out(self, owner: str) -> None:
        space: dict[str, Any] = {"array": array, "__name__": owner}
        exec("def f():\n    x = array()\n    1 / 0", space)
        assert find(error=catch(space["f"])).rows == ()
        space["__name__"] = "IPython_like"
        assert find(error=catch(space["f"])).rows[0].own == MIB


def test_a_frames_locals_that_are_none_hide_nothing() -> None:
    """As most arguments of a library's function are, beside the model that it loads."""

    def load(path: object = None) -> None:
        model = [array(4), path]
        raise MemoryError(str(len(model)))

    (row,) = find(error=catch(load)).rows
    assert (row.kind, row.name, row.own) == ("failed_cell", "model", 4 * MIB)


def test_a_variables_bytes_are_placed_below_it() -> None:
    trainer = Plain(array(1))
    trainer.optimizer, trainer.name = [array(3)], "adam"  # type: ignore[attr-defined]
    variables = {
        "losses": [array(1), array(1)],
        "trainer": trainer,
        "cache": {"a": array(1), 7: array(2)},
        "odd": {Plain(None): array(1)},
        "many": {number: array(1) for number in range(65)},
        "slots": Slots(array(1)),
        "alone": array(1),
    }
    found = find(variables)
    assert {row.name: row.path for row in found.rows} == {
        "losses": "losses[…]",
        "trainer": "trainer.optimizer",
        "cache": "cache[7]",
        "odd": "odd[…]",
        "many": "",
        "slots": "",
        "alone": "",
    }
    assert found.named("trainer")
    assert table(found)["trainer"] == (4, 0)


def test_bytes_that_a_part_shares_with_another_name() -> None:
    optimizer = Plain(array(3))
    trainer = Plain(array(1))
    trainer.optimizer = optimizer  # type: ignore[attr-defined]
    found = find({"trainer": trainer, "optimizer": optimizer})
    assert table(found) == {"trainer": (1, 3), "optimizer": (0, 3)}
    assert [row.path for row in found.rows] == ["trainer.thing", "optimizer.thing"]  # of what it keeps alone, first


def test_members_of_an_array_of_objects() -> None:
    numpy = pytest.importorskip("numpy")
    box = numpy.empty(2, object)
    box[0] = [array(3)]
    (row,) = find({"box": box}).rows
    assert 3 * MIB <= row.own < 4 * MIB


# -- where the search goes -------------------------------------------------------------------------------------------


class Plain:
    def __init__(self, thing: object) -> None:
        self.thing = thing

    def method(self) -> object:
        return self.thing


class Slots:
    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing


@dataclass(slots=True)
class Record:
    thing: object


Pair = collections.namedtuple("Pair", "first second")


def closure(thing: object) -> Callable[[], object]:
    def inner() -> object:
        return thing

    return inner


def with_default(thing: object) -> Callable[..., object]:
    def inner(value: object = thing) -> object:
        return value

    return inner


def with_keyword_default(thing: object) -> Callable[..., object]:
    def inner(*, value: object = thing) -> object:
        return value

    return inner


def with_attribute(thing: object) -> Callable[[], None]:
    def inner() -> None: ...

    inner.cache = thing  # type: ignore[attr-defined]
    return inner


def suspended(thing: object) -> Any:
    def numbers() -> Any:
        local = thing
        yield 1
        yield local

    source = numbers()
    next(source)
    return source


def awaiting(thing: object) -> Any:
    async def wait() -> object:
        local = thing
        await Pause()
        return local

    waiting = wait()
    waiting.send(None)
    return waiting


def async_generator(thing: object) -> Any:
    async def numbers() -> Any:
        local = thing
        yield local
        yield local

    source = numbers()
    with pytest.raises(StopIteration):
        source.__anext__().send(None)
    return source


class Pause:
    def __await__(self) -> Any:
        yield


def saved_error(thing: object) -> BaseException:
    def fail(local: object) -> None:
        raise ValueError(str(local is None))

    return catch(lambda: fail(thing))


def cyclic(thing: object) -> object:
    ring: list[object] = [thing]
    ring.append({"again": ring, "self": Plain(ring)})
    return ring


def deep(thing: object) -> object:
    for _ in range(100_000):
        thing = [thing]
    return thing


def object_with_buffer(thing: Any) -> object:
    layer = torch.nn.Module()
    layer.register_buffer("thing", torch.from_numpy(thing))
    return torch.nn.Sequential(layer)


LEADS: dict[str, Callable[[Any], object]] = {
    "itself": lambda thing: thing,
    "list": lambda thing: [[thing]],
    "tuple": lambda thing: ((thing,),),
    "dict value": lambda thing: {"a": {"b": thing}},
    "dict key": lambda thing: {Slots(thing): 1},
    "set": lambda thing: {Plain(thing)},
    "frozenset": lambda thing: frozenset([Plain(thing)]),
    "deque": lambda thing: collections.deque([thing]),
    "ordered dict": lambda thing: collections.OrderedDict(a=thing),
    "default dict": lambda thing: collections.defaultdict(list, a=thing),
    "named tuple": lambda thing: Pair(1, thing),
    "namespace": lambda thing: types.SimpleNamespace(a=thing),
    "mapping proxy": lambda thing: types.MappingProxyType({"a": thing}),
    "dict view": lambda thing: {"a": thing}.values(),
    "iterator": lambda thing: iter([thing]),
    "zip": lambda thing: zip([thing], [1], strict=True),
    "chain": lambda thing: itertools.chain([thing]),
    "attribute": Plain,
    "slots": Slots,
    "data class": Record,
    "class with __dict__ emptied and filled": lambda thing: vars(Plain(thing)),
    "closure": closure,
    "default": with_default,
    "keyword default": with_keyword_default,
    "function attribute": with_attribute,
    "lambda": lambda thing: lambda: thing,
    "partial": lambda thing: functools.partial(print, thing),
    "itemgetter": lambda thing: operator.itemgetter(Slots(thing)),
    "bound method": lambda thing: Plain(thing).method,
    "built-in method": lambda thing: [thing].append,
    "array's method": lambda thing: thing.sum,
    "cached function": lambda thing: _filled_cache(thing),
    "generator": suspended,
    "coroutine": awaiting,
    "async generator": async_generator,
    "saved exception": saved_error,
    "traceback": lambda thing: saved_error(thing).__traceback__,
    "frame": lambda thing: saved_error(thing).__traceback__.tb_next.tb_frame,  # type: ignore[union-attr]
    "property's function": lambda thing: property(lambda _: thing),
    "cycle": cyclic,
    "100,000 levels": deep,
    "module buffer": object_with_buffer,
    "weak value's owner": lambda thing: (weakref.WeakValueDictionary(), thing),
}


def _filled_cache(thing: object) -> object:
    @functools.lru_cache
    def remember(number: int) -> object:
        return thing

    remember(1)
    return remember


@pytest.mark.parametrize("kind", LEADS)
def test_the_search_reaches(kind: str) -> None:
    holder = LEADS[kind](array(2))
    gc.collect()
    (row,) = find({"holder": holder}, objects=False).rows  # what leads there may have bytes of its own
    assert (row.name, row.own) == ("holder", 2 * MIB)


def test_the_search_does_not_leave_what_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules, classes, functions' globals, weak references and what is barred lead away from holdings."""
    module = types.ModuleType("of_somebody")
    module.thing = array()  # type: ignore[attr-defined]
    owner = Plain(array())
    kept = array()
    space: dict[str, Any] = {"thing": array()}
    exec("def function(): return thing", space)
    shell = Plain(array())
    variables = {
        "module": module,
        "class": type("WithAttribute", (), {"thing": array()}),
        "function": space["function"],
        "weak": weakref.ref(owner),
        "shell": shell,
        "of the shell": [shell.method, {"shell": shell}],
        "instance": type("WithAttribute", (), {"thing": kept})(),
        "built-in": len,
    }
    found = find(variables, barred=(shell,))
    assert found.rows == ()
    assert found.complete
    assert owner.thing is not None


class TestEarlierCells:
    """An error that came up to IPython was that of a cell; the next one makes garbage of it, frames and all."""

    @pytest.fixture(autouse=True)
    def no_garbage(self) -> None:
        gc.collect()  # other tests' errors

    def fail(self, owner: str, call: Callable[[], object]) -> BaseException:
        space: dict[str, Any] = {"__name__": owner}
        exec(
            "def run_code(call):\n    try:\n        call()\n    except Exception as error:\n        return error", space
        )
        error: BaseException = space["run_code"](call)
        return error

    def search(self, error: BaseException, **variables: object) -> Holdings:
        scope = Scope(variables=variables, frames=retained.frames_of([error]))
        tracers: Any = (_pytorch, _numpy)
        return find_holdings(scope, tracers, backend="host", device=None, seconds=60, everywhere=True)

    def step(self, mebibytes: int) -> None:
        batch = array(mebibytes)
        raise MemoryError(len(batch))

    def test_what_they_keep_is_told_once(self) -> None:
        def wrap() -> None:
            try:
                self.step(4)
            except MemoryError as error:
                raise ValueError from error

        errors = [self.fail("IPython.core.interactiveshell", call) for call in (wrap, lambda: self.step(2))]
        found = self.search(errors[1])
        assert [(row.kind, row.name, row.function, row.own // MIB) for row in found.rows if row.function] == [
            ("earlier_cell", "batch", "step", 4),
            ("failed_cell", "batch", "step", 2),
        ]
        assert found.freed_by(found.of_failures()) == 6 * MIB

    def test_what_a_variable_keeps_as_well_does_not_come_back(self) -> None:
        errors = [self.fail("IPython.core.interactiveshell", lambda: self.step(2)) for _ in range(2)]
        found = self.search(errors[1], kept=errors[0])
        assert found.freed_by(found.of_failures()) == 2 * MIB
        assert found.freed_by(found.of_failures() | found.named("kept")) == 4 * MIB

    def test_a_cell_that_there_is_no_time_for_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It comes after the names: time is up as it is followed."""
        errors = [self.fail("IPython.core.interactiveshell", lambda: self.step(2)) for _ in range(2)]
        now, follow = [0.0], walk.Walk.follow

        def slowly(search: Any, root: Any, seen: Any = None) -> Any:
            now[0] += 100 * (root.kind == "earlier_cell")
            return follow(search, root, seen)

        monkeypatch.setattr(walk, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(walk.Walk, "follow", slowly)
        found = self.search(errors[1], mine=array())
        assert {"mine", "batch"} <= {row.name for row in found.rows}
        assert (found.complete, found.everywhere) == (False, False)
        assert (found.searched, found.total) == (2, 3)
        assert errors

    def test_what_the_users_code_has_caught_is_no_cell(self) -> None:
        caught = self.fail("IPython_like", lambda: self.step(4))
        found = self.search(self.fail("ipykernel.ipkernel", lambda: self.step(2)))
        assert not found.of_kind("earlier_cell")
        assert caught is not None

    def test_no_code_of_an_exception_runs(self, calls: list[str]) -> None:
        hidden = ("__traceback__", "__cause__", "__context__", "__class__", "__notes__", "args", "exceptions")
        kind = type("Hostile", (ExceptionGroup,), {name: property(refuse(name)) for name in hidden})

        def fail() -> None:
            batch = array(4)
            raise kind("hidden", [ValueError(len(batch))])

        earlier = self.fail("IPython", fail)
        found = self.search(self.fail("IPython", lambda: self.step(2)))
        assert "earlier_cell" in {row.kind for row in found.rows}
        assert calls == []
        assert type(earlier) is kind


def test_the_same_barred_object_is_found_where_it_is_not_barred() -> None:
    assert find({"shell": Plain(array())}).rows[0].own == MIB


# -- nothing of the user's is run ------------------------------------------------------------------------------------

CALLS: list[str] = []


def refuse(name: str) -> Any:
    def record(*_: object, **__: object) -> Any:
        CALLS.append(name)
        raise ZeroDivisionError(name)

    return record


SPECIAL = (
    *("__getattribute__", "__getattr__", "__setattr__", "__repr__", "__str__", "__len__", "__bool__", "__eq__"),
    *("__hash__", "__iter__", "__getitem__", "__contains__", "__dir__", "__sizeof__", "__reduce_ex__", "__call__"),
    *("__get__", "__enter__", "__format__", "__int__", "__index__", "__instancecheck__", "__lt__"),
)


class HostileMeta(type):
    __getattribute__ = refuse("meta getattribute")
    __eq__ = refuse("meta eq")
    __hash__ = refuse("meta hash")
    __instancecheck__ = refuse("meta instancecheck")
    __subclasscheck__ = refuse("meta subclasscheck")
    __repr__ = refuse("meta repr")
    __bool__ = refuse("meta bool")
    __len__ = refuse("meta len")


def hostile(base: type = object) -> Any:
    """An instance of a class whose every method raises, of a metaclass of that sort, and whose class lies."""
    members: dict[str, Any] = {name: refuse(name) for name in SPECIAL}
    members["__class__"] = property(refuse("__class__"))
    members["lazy"] = property(refuse("property"))
    kind: Any = type.__call__(HostileMeta, "Hostile", (base,), members)
    make: Any = base.__new__
    return make(kind)


@pytest.fixture(autouse=True)
def calls() -> list[str]:
    CALLS.clear()
    return CALLS


def test_no_code_of_an_object_runs(calls: list[str]) -> None:
    holder = hostile()
    object.__setattr__(holder, "thing", array(1))
    mapping, sequence = hostile(dict), hostile(list)
    dict.__setitem__(mapping, "a", array(2))
    list.append(sequence, array(4))
    found = find({"holder": holder, "mapping": mapping, "sequence": sequence, "inside": [[holder]]})
    assert table(found) == {"sequence": (4, 0), "mapping": (2, 0), "holder": (0, 1), "inside": (0, 1)}
    assert {row.type_name for row in found.rows} == {"Hostile", "list"}
    assert calls == []


def test_no_code_of_a_class_body_runs(calls: list[str]) -> None:
    """The locals of a class body may be any mapping that a metaclass prepares."""

    class Names(dict[str, Any]):
        keys = values = items = get = __iter__ = __len__ = refuse("mapping")

    class Odd:
        def __init__(self) -> None:
            self.names: dict[str, Any] = {}

        def __getitem__(self, name: str) -> Any:
            return self.names[name]

        def __setitem__(self, name: str, value: object) -> None:
            self.names[name] = value

        keys = values = items = __iter__ = __len__ = refuse("odd")

    for kind, expected in ((Names, MIB), (Odd, 0)):

        class Meta(type):
            @classmethod
            def __prepare__(cls, *_: object, **__: object) -> Any:
                return kind()  # noqa: B023  used in this round alone

        def fail() -> None:
            class Body(metaclass=Meta):
                thing = array()
                raise MemoryError

        error = catch(fail)
        CALLS.clear()
        assert sum(row.own for row in find(error=error).rows) == expected
        assert calls == []


def test_no_code_of_globals_runs(calls: list[str]) -> None:
    class Space(dict[str, Any]):
        get = keys = items = refuse("globals")

    space = Space(array=array)
    exec("def f():\n    x = array()\n    1 / 0", space)
    calls.clear()
    assert find(error=catch(space["f"])).rows[0].own == MIB
    assert calls == []


# -- time ------------------------------------------------------------------------------------------------------------


def test_out_of_time_is_said() -> None:
    found = find({"a": array(), "b": [array()], "c": 1}, seconds=-1)
    assert found.rows == ()
    assert (found.complete, found.searched, found.total) == (False, 0, 2)


def test_what_was_found_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is up as soon as the third name's first array was counted."""
    now = [0.0]
    last = array(4)

    class UntilLast:
        def __getattr__(self, name: str) -> Any:
            return getattr(_numpy, name)

        def storages(self, objects: Any) -> Any:
            now[0] += 10 * any(thing is last for thing in objects)
            return _numpy.storages(objects)

    monkeypatch.setattr("nb_oomhelper.holders.walk.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    scope = Scope(variables={"a": array(2), "b": array(1), "c": [last, [array(8)]], "d": [array()]})
    tracers: Any = [UntilLast()]
    found = find_holdings(scope, tracers, backend="host", device=None, seconds=5)
    assert table(found) == {"c": (4, 0), "a": (2, 0), "b": (1, 0)}
    assert (found.complete, found.searched, found.total) == (False, 2, 4)


def test_of_a_graph_too_long_to_go_through_a_part_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on with each look at it: the graph is gathered until half of the time is up."""
    steps, ticks = 5 * walk._CHUNK, itertools.count()
    last = torch.ones(256, requires_grad=True)
    for _ in range(steps):
        last = last.sin()
    whole = find({"last": last}, objects=False)
    assert (whole.complete, whole.rows[0].own) == (True, (steps + 1) << 10)
    monkeypatch.setattr(walk, "time", types.SimpleNamespace(monotonic=lambda: float(next(ticks))))
    part = find({"last": last}, seconds=6, objects=False)
    assert not part.complete
    assert walk._CHUNK << 10 <= part.rows[0].own < 2 * walk._CHUNK << 10


class TestManyObjects:
    """To look at all living objects takes long where there are millions of them, and cannot be stopped."""

    NAMES = ("a", "b", "c")

    def search(self, monkeypatch: pytest.MonkeyPatch, takes: float) -> tuple[Holdings, list[float]]:
        """A search of five seconds by a clock that goes on as all objects are looked at, and by nothing else."""
        now, looks = [0.0], []

        def look(kinds: Any, *, seconds: float) -> Any:
            looks.append(seconds)
            now[0] += takes
            return living(kinds, seconds=seconds)

        monkeypatch.setattr(walk, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(walk, "living", look)
        monkeypatch.setattr("nb_oomhelper.introspection.living_takes", lambda: takes)
        return find({name: array() for name in self.NAMES}, seconds=5, everywhere=True), looks

    def test_names_come_before_all_that_lives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found, looks = self.search(monkeypatch, takes=100.0)
        assert {row.name for row in found.rows} == set(self.NAMES)
        assert (found.complete, found.everywhere) == (True, False)
        assert len(looks) == 1

    @pytest.mark.parametrize(("takes", "everywhere"), [(3.0, True), (4.0, False)])
    def test_there_must_be_time_to_follow_what_is_found(
        self, takes: float, everywhere: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found, looks = self.search(monkeypatch, takes)
        assert found.everywhere == everywhere
        assert len(looks) == 1
        assert 0 < looks[0] < 5

    def test_it_is_known_beforehand_how_long_it_takes(self) -> None:
        """Of objects with one block each, which are the worst case: by the processor's time, and the best of a few."""
        many: list[Any] = [[] for _ in range(1_000_000)]
        ratios = []
        for _ in range(5):
            expected, started = living_takes(), time.thread_time()
            living([BaseException])
            ratios.append((time.thread_time() - started) / expected)
        assert min(ratios) < 1.3
        assert len(many) == 1_000_000


class Failing:
    """A framework that cannot read what it is asked about."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> Any:
            raise RuntimeError(name)

        return fail if name == self.failing else getattr(_pytorch, name)


@pytest.mark.parametrize("failing", ["role", "storages", "beyond", "label"])
def test_a_framework_that_fails_costs_its_own_rows(failing: str) -> None:
    scope = Scope(variables={"a": array(2), "b": [array(1), torch.zeros(MIB, dtype=torch.uint8)]})
    tracers: Any = [Failing(failing), _numpy]
    found = find_holdings(scope, tracers, backend="host", device=None, seconds=60, everywhere=True)
    assert {row.name: row.own // MIB for row in found.rows if row.kind == "variable"} == {
        "a": 2,
        "b": 2 if failing in ("beyond", "label") else 1,
    }
    assert found.complete == (failing == "role")
    assert found.total - found.searched == {"role": 0, "label": 1, "storages": 2, "beyond": 2}[failing]


# -- all living objects ----------------------------------------------------------------------------------------------


class TestLiving:
    def test_just_these_classes(self) -> None:
        class Mine(Exception):  # noqa: N818
            pass

        class Below(Mine):
            pass

        mine, below = Mine(), Below()
        assert living([Mine]) == [mine]
        assert {id(one) for one in living(with_subclasses([Mine])) or ()} == {id(mine), id(below)}

    def test_nothing_is_kept_and_nothing_of_a_class_runs(self, calls: list[str]) -> None:
        holder, one = hostile(), [object()]
        before = sys.getrefcount(one)
        found = living([type(holder)])
        assert found is not None
        assert len(found) == 1
        assert sys.getrefcount(one) == before
        assert calls == []

    def test_it_takes_no_longer_than_it_may(self) -> None:
        assert living([ValueError], seconds=0) is None

    def test_tuples_that_another_thread_fills(self) -> None:
        """Referred to by anybody else, they cannot be given their last size."""
        made, failed, done = [], [], threading.Event()

        def slowly() -> Iterator[int]:
            for number in range(8):
                time.sleep(0.001)
                yield number

        def work() -> None:
            while not done.is_set():
                try:
                    made.append(len(tuple(slowly())))
                except SystemError as error:
                    failed.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            living([BaseException])
            time.sleep(0.001)
        done.set()
        for thread in threads:
            thread.join()
        assert made
        assert failed == []


def test_a_crowd_takes_nobody_elses_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be millions of objects is searched last, and models and arrays before what only may lead to some."""
    order: list[str] = []
    follow = walk.Walk.follow

    def noted(self: Any, root: Any, seen: Any = None) -> Any:
        order.append(root.name or root.kind)
        return follow(self, root, seen)

    monkeypatch.setattr(walk.Walk, "follow", noted)
    find({"crowd": [[] for _ in range(20_000)], "few": [array(1)], "alone": array(1)})
    assert order == ["alone", "few", "crowd"]


# -- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everywhere", [False, True])
def test_no_reference_is_kept(everywhere: bool) -> None:
    class Kind:
        thing: Any

    def fail(local: object) -> None:
        raise MemoryError(str(local is None))

    holder, displayed, in_frame = Kind(), Kind(), Kind()
    for one in (holder, displayed, in_frame):
        one.thing = array()
    del one
    error = catch(functools.partial(fail, in_frame))
    alive = [weakref.ref(one) for one in (holder, displayed, in_frame, Kind)]
    gc.collect()
    gc.disable()  # nothing may be left in a cycle either
    try:
        found = find({"holder": holder}, results={1: displayed}, error=error, everywhere=everywhere)
        assert {row.kind for row in found.rows} >= {"variable", "output_history", "failed_cell"}
        del holder, displayed
        assert [ref() is None for ref in alive[:2]] == [True, True]
        del in_frame, error
        assert alive[2]() is None
    finally:
        gc.enable()
    del Kind
    gc.collect()
    assert alive[3]() is None


def test_a_generator_that_goes_on_drops_what_it_drops() -> None:
    """A copy of its locals would stay on its frame, which somebody has asked for, as a release does."""

    class Local:
        pass

    def numbers() -> Iterator[object]:
        local = Local()
        yield weakref.ref(local)
        del local
        yield None

    source: Any = numbers()
    alive: Any = next(source)
    frames = [source.gi_frame]
    find({"source": source, "frames": frames})
    next(source)
    assert alive() is None


# -- the scope of a shell --------------------------------------------------------------------------------------------


def test_a_shells_variables() -> None:
    """Names such as `x1` are the user's; `_1`, `_i1` and `In` are IPython's."""
    code = """
        from nb_oomhelper.failure.detection import read_failure
        from nb_oomhelper.holders.scope import scope_of
        cell("import os; x1 = 1; W2 = 2; i3 = 3; xi4 = 4; model = 5; _mine = 6; _x7 = 7; In1 = 8; open = 9; ii1 = 10")
        cell("'shown'")
        cell("def f():\\n    local = 1\\n    1 / 0\\nf()")
        scope = scope_of(shell)
        names = [name for name in scope.variables if not name.startswith("__") and name not in ("Thing", "os", "f")]
        frames = [(frame.f_code.co_name, line) for frame, line in scope.frames][-2:]
        error = shell.last_execution_result.error_in_exec
        given = [(frame.f_code.co_name, line) for frame, line in scope_of(shell, read_failure(error)).frames][-2:]
        tell(names, scope.results, frames, given, any(one is shell.user_ns for one in scope.barred))
    """
    names, results, frames, given, barred = in_shell(code)
    assert sorted(names) == sorted(["x1", "W2", "i3", "xi4", "model", "_mine", "_x7", "In1", "open", "ii1"])
    assert results == {"2": "shown"}
    assert frames == given == [["<module>", 4], ["f", 3]]
    assert barred


def test_a_name_of_four_underscores_is_the_users() -> None:
    code = """
        from nb_oomhelper.holders.scope import scope_of
        cell("____ = 1"); cell("_5x = 2"); cell("3"); cell("4"); cell("5")
        tell([name for name in scope_of(shell).variables if set(name) <= set("_0123456789ixOu")])
    """
    assert in_shell(code) == [["____", "_5x"]]


@pytest.mark.parametrize("name", ["_", "__", "___", "_1", "_20", "_oh", "Out"])
def test_names_of_displayed_results(name: str) -> None:
    assert is_result(name)


@pytest.mark.parametrize("name", ["____", "_i", "_i1", "_ih", "In", "_dh", "_x", "x", "_1a", "Out1"])
def test_names_of_other_things(name: str) -> None:
    assert not is_result(name)


def test_a_variable_that_leads_to_the_shell() -> None:
    code = """
        import numpy
        from nb_oomhelper.frameworks import _numpy
        from nb_oomhelper.holders.search import find_holdings
        from nb_oomhelper.holders.scope import scope_of
        cell("import numpy; big = numpy.zeros(1 << 20, dtype='uint8')")
        cell("ip = get_ipython(); run = ip.run_cell; names = globals(); also = [locals, ip.events]")
        found = find_holdings(scope_of(shell), [_numpy], backend="host", device=None, seconds=60)
        tell([(row.name, row.own) for row in found.rows], found.complete)
    """
    assert in_shell(code) == [[["big", MIB]], True]

"""The statements of one module call, as a person would write them.

Values that torch's source names become assignments under that name; what it nests stays nested.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch

from . import paths
from .ir import Call, Op, Param, Size, Value, tree_values
from .lower import DTYPES, rule_of
from .measure import Measures
from .partition import direct_values, effects, outer_inputs, stores
from .words import (
    RESERVED,
    Body,
    NeedsName,
    Obstacle,
    Unported,
    axes_of,
    by_name,
    handed_over,
    identity,
    is_fixed,
    is_same,
    pick,
    plain,
    safe,
    size_forms,
    size_values,
    suggestion,
    symbols_in,
)

__all__ = ["write"]

_TWICE = {"max", "min", "sort", "view_as_complex", "view_as_real", "scatter_add", "scatter",
          "scatter_reduce", "copy", "lerp", "_weight_norm"}  # fmt: skip


def write(call: Call, root: torch.nn.Module, consts: Any) -> Body:
    """Write the body of one call."""
    named: set[Any] = set()
    while True:
        try:
            return _Writer(call, root, named, consts).run()
        except NeedsName:
            continue


class _Writer(Measures):
    def __init__(self, call: Call, root: torch.nn.Module, named: set[Any], consts: Any) -> None:
        self.call = call
        self.root = root
        self.named = named
        self.consts = consts
        self.body = Body(call)
        self.text: dict[int, str] = {}
        self.inline: dict[int, str] = {}
        self.spent: set[int] = set()
        self.bound: dict[str, Value] = {}
        self.unpacked: dict[tuple[int, int], str] = {}
        self.named_sizes: dict[str, str | int] = {}
        self.values: list[Value] = []
        self.dtypes: dict[int, str] = {}
        self.last: dict[int, int] = {}
        self.last_use: dict[int, int] = {}
        self.lists: dict[tuple[int, ...], str] = {}  # sequences of arrays that were passed in
        self.holders: dict[str, Value] = {}
        self.symbols: dict[str, str] = {}  # sizes that are known by a name here
        self.now = -1

    def run(self) -> Body:
        self.arguments()
        self.plan()
        self.early_sizes()
        for index, item in enumerate(self.call.items):
            self.now = self.position[index]
            self.item(index, item)
        self.now = len(self.call.items)
        self.spent.clear()
        self.returned()
        return self.body

    # --- what is known before the first line

    def arguments(self) -> None:
        """Bind forward's arguments; the call's own names for them are torch's."""
        signature = inspect.signature(self.call.module.forward)
        parameters = list(signature.parameters.values())
        bound = signature.bind(*self.call.args, **self.call.kwargs).arguments
        needed = {id(v) for v in outer_inputs(self.call)}
        shown: list[tuple[str, str | None, str]] = []
        told = self.consts.told.get(id(self.call.module))
        last_used = -1
        for place, parameter in enumerate(parameters):
            if told is not None and told.absent and told.name == parameter.name:
                continue
            tree = bound.get(parameter.name)
            if not is_fixed(tree) or handed_over(self.call, tree):
                last_used = place
        for place, parameter in enumerate(parameters):
            tree = bound.get(parameter.name)
            name = safe(parameter.name)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                for key, branch in (tree or {}).items():
                    if any(True for _ in tree_values(branch)) or handed_over(self.call, branch):
                        shown.append((key, None, "keyword"))
                        self.bind_tree(key, branch)
                continue
            is_told = told is not None and told.name == parameter.name
            if is_told and told.absent:
                shown.append((name, "None", "keyword"))
                self.bind_tree(name, tree)
                continue
            if place > last_used:
                if is_told:
                    shown.append((name, None, "keyword"))
                continue
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                for i, branch in enumerate(tree or ()):
                    shown.append((f"{name}{i}", None, "positional"))
                    self.bind_tree(f"{name}{i}", branch)
                continue
            default = None
            if parameter.default is not inspect.Parameter.empty:
                default = plain(parameter.default)
            kind = "keyword" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else "positional"
            shown.append((name, default, kind))
            self.bind_tree(name, tree)
        for value in outer_inputs(self.call):
            if id(value) in needed and id(value) not in self.text:
                name = self.fresh(self.names_of(value, all_calls=True)[:1] or ["extra"])
                shown.append((name, None, "keyword"))
                self.bind(value, name)
                self.call.names[name] = value
        self.body.signature = shown

    def bind_tree(self, text: str, tree: Any) -> None:
        if handed_over(self.call, tree):
            self.body.modules[identity(tree)] = text
        if isinstance(tree, Value):
            if not isinstance(tree.producer, Param) or self.reach(tree) is None:
                self.bind(tree, text)
        elif isinstance(tree, dict):
            for key, branch in tree.items():
                self.bind_tree(f"{text}[{key!r}]".replace("'", '"'), branch)
        elif isinstance(tree, (tuple, list)):
            if tree and all(isinstance(branch, Value) for branch in tree):
                self.lists.setdefault(tuple(id(branch) for branch in tree), text)
                self.holders[text] = self.bound[text] = Value((), torch.float32)
            for index, branch in enumerate(tree):
                self.bind_tree(f"{text}[{index}]", branch)
        elif any(True for _ in symbols_in(tree)):
            self.symbols.setdefault(str(tree.value), text)

    def early_sizes(self) -> None:
        """Note the sizes of arguments that are needed when their arrays' names are taken."""
        for symbol in sorted(each for each in self.named if isinstance(each, str)):
            for value in self.values:
                if symbol in value.symbols and (text := self.text[id(value)]).isidentifier():
                    axis = value.symbols.index(symbol)
                    name = self.dims.get(id(value), {}).get(axis) or ("N" if axis == 0 else "size")
                    self.symbols[symbol] = name = self.fresh([name])
                    self.body.lines.append(f"{name} = {text}.shape[{value.layout.index(axis)}]")
                    self.bound[name] = holder = Value((), torch.int64)
                    self.last[id(holder)] = len(self.call.items)
                    break

    def bind(self, value: Value, text: str) -> None:
        if id(value) in self.text:
            return
        self.text[id(value)] = text
        self.values.append(value)
        if text.isidentifier():
            self.bound[text] = value

    def plan(self) -> None:
        """Decide what is nested where, and until when each value is needed."""
        items = self.call.items
        uses: dict[int, list[int]] = {}
        sizes: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            for value in self.used(item):
                uses.setdefault(id(value), []).append(index)
            for value in size_values(item):
                sizes.setdefault(id(value), []).append(index)
        for value in tree_values(self.call.out):
            uses.setdefault(id(value), []).append(len(items))
        self.uses = uses
        self.casts = {
            id(form[1]): (form[2] if len(form) > 2 else "dtype")
            for item in items
            for form in size_forms(item)
            if form[0] == "dtype"
        }
        self.position = list(range(len(items)))
        for index in reversed(range(len(items))):
            consumer = self.consumer(index, uses, sizes)
            if consumer is not None:
                self.position[index] = (
                    len(items) if consumer == len(items) else self.position[consumer]
                )
        self.last_use = {
            key: max(len(items) if p == len(items) else self.position[p] for p in places)
            for key, places in uses.items()
        }
        for table in (uses, sizes):
            for key, places in table.items():
                reached = max(len(items) if p == len(items) else self.position[p] for p in places)
                self.last[key] = max(self.last.get(key, 0), reached)
        for parts, name in self.lists.items():  # a list's name is taken while a part is needed
            ends = [self.last.get(part, -1) for part in parts]
            self.last[id(self.holders[name])] = max(ends)

    def used(self, item: Any) -> list[Value]:
        if isinstance(item, Call):
            extra = [] if item.leaf is not None or item.chain else outer_inputs(item)
            direct = list(direct_values((item.args, item.kwargs)))
            known = {id(v) for v in tree_values((item.args, item.kwargs))}
            return direct + [v for v in extra if id(v) not in known]
        return list(direct_values((item.args, item.kwargs)))

    def consumer(
        self, index: int, uses: dict[int, list[int]], sizes: dict[int, list[int]]
    ) -> int | None:
        """The item that an item's value is written inside of, None if it gets a name."""
        item = self.call.items[index]
        outs = list(tree_values(item.out))
        if isinstance(item, Op) and item.target in ("fluxmod.same", "fluxmod.store"):
            return None
        if len(outs) != 1 and not self.picks_one(outs, uses):
            return None
        value = next((v for v in outs if id(v) in uses), outs[0]) if outs else None
        if value is None or id(value) in self.named or id(value) in sizes:
            return None
        end = len(self.call.items)
        places = uses.get(id(value), [])
        while len(places) == 1 and places[0] < end and is_same(self.call.items[places[0]]):
            renamed = self.call.items[places[0]].out
            if id(renamed) in sizes:
                return None
            places = uses.get(id(renamed), [])
        if len(places) != 1:
            return None
        place = places[0]
        if place < end and isinstance(self.call.items[place], Op):
            if self.call.items[place].name in _TWICE:
                return None
        if self.names_of(value) and place != end:
            return None
        if place == end and self.names_of(value) and not isinstance(self.call.out, Value):
            return None
        target = end if place == end else self.position[place]
        between = range(index + 1, min(target, end))
        if effects(item):
            for other in between:
                if effects(self.call.items[other]) and self.position[other] != target:
                    return None
        if any(self.reads_state(v) for v in self.used(item)):
            if any(stores(self.call.items[other]) for other in between):
                return None
        return place

    def reads_state(self, value: Value) -> bool:
        """Whether the text of a value reads a parameter or buffer."""
        made = value.producer
        return isinstance(made, Param) or (isinstance(made, Op) and stores(made))

    def picks_one(self, outs: list[Value], uses: dict[int, list[int]]) -> bool:
        return sum(id(v) in uses for v in outs) == 1

    def names_of(self, value: Value, *, all_calls: bool = False) -> list[str]:
        names = value.names.get(self.call.index, [])
        if all_calls and not names:
            names = [n for each in value.names.values() for n in each]
        return [safe(n) for n in names if n not in RESERVED]

    # --- text of arguments (what the lowering rules ask for)

    def __call__(self, argument: Any) -> str:
        if isinstance(argument, Value):
            return self.use(argument)
        if isinstance(argument, Size):
            return self.size(argument)
        if isinstance(argument, torch.dtype):
            return DTYPES[argument]
        if isinstance(argument, (list, tuple)):
            known = self.lists.get(tuple(map(id, argument))) if argument else None
            if known is not None and self.bound.get(known) is self.holders[known]:
                return known
            inner = ", ".join(self(a) for a in argument)
            if isinstance(argument, list):
                return f"[{inner}]"
            return f"({inner}{',' if len(argument) == 1 else ''})"
        if isinstance(argument, dict):
            return "{" + ", ".join(f'"{k}": {self(v)}' for k, v in argument.items()) + "}"
        if isinstance(argument, (int, float)) and not isinstance(argument, bool):
            return self.literal(argument)
        return plain(argument)

    def use(self, value: Value) -> str:
        key = id(value)
        if key in self.inline:
            if key in self.spent:
                self.named.add(key)
                while is_same(value.producer):
                    value = value.producer.args[0]
                    self.named.add(id(value))
                raise NeedsName
            self.spent.add(key)
            return f"({self.inline[key]})"
        if key in self.text:
            return self.text[key]
        if isinstance(value.producer, Param):
            return self.state(value)
        raise Unported(f"a value is not reachable in {self.call.path or 'the model'}")

    def reach(self, value: Value) -> str | None:
        return paths.accessible(value.producer, self.call.path)

    def state(self, value: Value) -> str:
        """A parameter or buffer, in torch's order of axes."""
        text, perm = self.stored(value)
        if perm is None:
            return text
        back = [perm.index(i) for i in range(len(perm))]
        return f"{text}.T" if back == [1, 0] else f"{text}.transpose({', '.join(map(str, back))})"

    def stored(self, value: Value) -> tuple[str, tuple[int, ...] | None]:
        param: Param = value.producer
        path = self.reach(value)
        if path is None:
            return self.consts(self, value), None
        flax, perm = path, None
        if path.rpartition(".")[0] not in self.consts.declined:
            flax, perm = paths.stored_as(self.root, path)
        rest = paths.relative(flax, self.call.path)
        assert rest is not None  # noqa: S101 - reach() has checked it
        del param
        return paths.expression(self.call.module, rest) + "[...]", perm

    def permuted(self, value: Any, perm: tuple[int, ...]) -> str:
        """A weight with its axes permuted, as Flax stores it where it does."""
        if isinstance(value.producer, Param) and id(value) not in self.text:
            text, stored = self.stored(value)
            if stored == perm:
                return text
        text = self(value)
        return f"{text}.T" if perm == (1, 0) else f"{text}.transpose({', '.join(map(str, perm))})"

    def transposed(self, value: Any) -> str:
        return self.permuted(value, (1, 0))

    def rngs(self) -> str:
        self.body.rngs = True
        return "self.rngs"

    # --- statements

    def item(self, index: int, item: Any) -> None:
        here = self.position[index] == index
        if here:
            self.spent.clear()
        if isinstance(item, Op) and item.target == "fluxmod.store":
            self.store(item)
            return
        if is_same(item):
            source = item.args[0]
            if id(source) in self.inline:
                self.inline[id(item.out)] = self.inline[id(source)]
            else:
                self.text[id(item.out)] = self(source)
                self.values.append(item.out)
                self.extend(source, item.out)
            return
        text = self.expression(item)
        if text is None:
            return
        outs = list(tree_values(item.out))
        used = [v for v in outs if id(v) in self.uses]
        if not used:
            if isinstance(item, Call):  # of an operator there were only sizes to read
                self.body.lines.append(text)
            return
        if not here:
            self.inline[id(used[0])] = (
                text if isinstance(item.out, Value) else pick(text, item.out, used[0])
            )
            return
        if isinstance(item.out, Value):
            name = self.name(item.out, item)
            self.assign(name, text)
            self.rebind(name, item.out)
        else:
            self.several(item, text, used)

    def store(self, item: Op) -> None:
        """Change a buffer; what it held before gets a name if it is still needed."""
        path, perm = self.stored(item.args[0])
        new = self(item.args[1]) if perm is None else self.permuted(item.args[1], perm)
        read = self.state(item.args[0])
        for value in [v for v in self.values if self.text.get(id(v)) == read] or [item.args[0]]:
            if self.last_use.get(id(value), -1) > self.now:
                name = self.fresh([item.args[0].producer.paths[0].rpartition(".")[2]])
                self.body.lines.append(f"{name} = {read}")
                self.rebind(name, value)
        self.body.lines.append(f"{path} = {new}")
        self.text[id(item.out)] = read
        self.values.append(item.out)

    def extend(self, source: Value, alias: Value) -> None:
        """What keeps an alias alive keeps its source's name."""
        self.last[id(source)] = max(self.last.get(id(source), 0), self.last.get(id(alias), 0))

    def assign(self, target: str, text: str) -> None:
        if target != text:
            self.body.lines.append(f"{target} = {text}")

    def rebind(self, name: str, value: Value) -> None:
        self.bound[name] = value
        self.text[id(value)] = name
        self.values.append(value)

    def several(self, item: Any, text: str, used: list[Value]) -> None:
        """Results that come as a tuple, list or dict."""
        flat = isinstance(item.out, (tuple, list)) and all(
            not isinstance(part, (tuple, list, dict)) for part in item.out
        )
        if len(used) == 1:
            name = self.name(used[0], item)
            self.assign(name, pick(text, item.out, used[0]))
            self.rebind(name, used[0])
        elif flat:
            names: list[str] = []
            for part in item.out:
                ours = isinstance(part, Value) and id(part) in self.uses
                names.append(self.name(part, item, avoid=names) if ours else "_")
            self.assign(", ".join(names), text)
            for name, part in zip(names, item.out, strict=True):
                if name != "_":
                    self.rebind(name, part)
        else:
            name = self.fresh(["outputs"])
            self.assign(name, text)
            holder = Value((), torch.float32)  # the name is taken while any of them is needed
            self.last[id(holder)] = max(self.last.get(id(value), -1) for value in used)
            self.bound[name] = holder
            for value in used:
                self.text[id(value)] = pick(name, item.out, value)
                self.values.append(value)

    def name(self, value: Value, item: Any, avoid: Any = ()) -> str:
        """The source's name for a value, made free if another value has it."""
        candidates = [n for n in self.names_of(value) if n not in avoid]
        for name in candidates:
            if self.free(name):
                return name
        for name in candidates:
            if self.move_away(name):
                return name
        base = suggestion(item)
        return self.fresh([n for n in [*candidates, base] if n not in avoid] or [base], avoid)

    def free(self, name: str) -> bool:
        if name in self.unpacked.values():
            return False
        other = self.bound.get(name)
        if other is None or self.last.get(id(other), -1) <= self.now:
            return True
        if self.last_use.get(id(other), -1) <= self.now and id(other) in self.casts:
            if id(other) not in self.dtypes:
                self.dtypes[id(other)] = self.fresh([self.casts[id(other)]])
                self.body.lines.append(f"{self.dtypes[id(other)]} = {name}.dtype")
            if not self.dims.get(id(other)):
                return True
        named = self.dims.get(id(other), {})
        if named and self.last_use.get(id(other), -1) <= self.now:
            self.unpack(other, named)  # only its sizes are needed from here on
            axes = {*named, *axes_of(other, self.call.items[self.now + 1 :])}
            return all((id(other), axis) in self.unpacked for axis in axes)
        return False

    def move_away(self, name: str) -> bool:
        """Give the value that has a name one of its other names."""
        other = self.bound.get(name)
        if other is None or self.is_pending(name):
            return False
        for alias in self.names_of(other):
            if alias != name and self.free(alias) and self.bound.get(alias) is None:
                self.body.lines.append(f"{alias} = {name}")
                moved = {id(other), *(k for k, text in self.text.items() if text == name)}
                self.text |= dict.fromkeys(moved, alias)
                self.bound[alias] = other
                del self.bound[name]
                return True
        return False

    def is_pending(self, name: str) -> bool:
        """Whether an expression that has its text, and no line yet, reads a name."""
        word = re.compile(rf"(?<![\w.]){name}\b")
        return any(
            word.search(t) for k, t in self.inline.items() if self.last.get(k, -1) >= self.now
        )

    def fresh(self, bases: list[str], avoid: Any = ()) -> str:
        for base in bases:
            if base not in avoid and base not in self.bound and base not in self.unpacked.values():
                return base
        for base in bases:
            if base not in avoid and self.free(base):
                return base
        number = 2
        while f"{bases[0]}{number}" in self.bound or f"{bases[0]}{number}" in avoid:
            number += 1
        return f"{bases[0]}{number}"

    def expression(self, item: Any) -> str | None:
        try:
            if isinstance(item, Call):
                return self.call_text(item)
            rule = rule_of(item.target)
            if rule is None:
                raise Unported(f"no lowering for {item.target}")
            return rule(self, item)
        except (Unported, NotImplementedError) as error:
            what = str(error) or item.target
            where = item.where
            self.body.obstacles.append(Obstacle(self.call.path, what, where))
            for value in tree_values(item.out):
                self.text[id(value)] = "None"
            return None

    def call_text(self, item: Call) -> str:
        """A call of a child: what torch passed, constants that the child has baked in left out."""
        target = "super().__call__" if item.own else self.target(item)
        if item.leaf is not None or item.chain:
            shown = [self(a) for a in item.args]
            shown += [f"{k}={self(v)}" for k, v in item.kwargs.items()]
            return f"{target}({', '.join(shown)})"
        given = by_name(item)
        texts: list[str] = []
        positional = list(item.args)
        by_keyword = False
        told = self.consts.told.get(id(item.module))
        for name, default, kind in self.consts.signature(item):
            if name in item.names:
                texts.append(f"{name}={self(item.names[name])}")
                continue
            tree = given.get(name)
            handed = self.consts.bodies[item.index].modules
            if isinstance(tree, torch.nn.Module) and identity(tree) in handed:
                texts.append(f"{name}={self.child(tree)}")
                by_keyword = True
                continue
            baked_in = is_fixed(tree) and (told is None or told.name != name)
            if default is not None and (baked_in or self(tree) == default):
                by_keyword = True
                continue
            text = self(tree) if name in given else default
            if kind == "keyword" or by_keyword or not positional:
                texts.append(f"{name}={text}")
            else:
                texts.append(str(text))
                positional.pop(0)
        return f"{target}({', '.join(texts)})"

    def target(self, item: Call) -> str:
        """The child that is called."""
        rest = paths.relative(item.path, self.call.path)
        if rest is None or identity(item.module) in self.body.modules:
            return self.child(item.module)
        return paths.expression(self.call.module, rest)

    def child(self, module: torch.nn.Module) -> str:
        """A module that is called or handed on: an argument, or a part of this one."""
        if identity(module) in self.body.modules:
            return self.body.modules[identity(module)]
        for path, each in self.call.module.named_modules(remove_duplicate=False):
            if path and identity(each) == identity(module):
                return paths.expression(self.call.module, path)
        raise Unported(f"uses a {type(module).__name__} that is not one of its submodules")

    def returned(self) -> None:
        out = self.call.out
        text = self.tree_text(out)
        self.body.lines.append(f"return {text}")

    def tree_text(self, tree: Any) -> str:
        if isinstance(tree, tuple) and len(tree) > 1:
            return ", ".join(self(t) for t in tree)
        return self(tree)

"""From a trace to single assignment: no identities, no in-place operators, no views, no wrappers.

torch's training graph is not functional. A write through a view changes what the tensor it came
from holds, so views are remembered and written back, and stale ones are read again.
"""

from __future__ import annotations

from typing import Any

import torch

from fluxmod._errors import UnsupportedOpError

from . import bases, leaves, overrides
from .capture import Trace
from .cond import cond
from .extents import Extents
from .ir import Call, Op, Param, Size, Value, map_tree, nodes_of, plain_name, tree_values
from .recording import CallRecord, OpRecord, records_of
from .repeats import cloned
from .running import batch_norm
from .spelling import respell
from .traced import (
    as_size,
    cast_back,
    current_like,
    is_known,
    node_dtype,
    paths_of,
    same_memory,
    takes_arguments,
    values_made,
    writes_in_place,
)

__all__ = ["Graph", "normalise"]

_END = 2**62
_DROPPED = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
_CASTS = ("to", "type_as", "_to_copy")
_SAME = (
    "alias",
    "contiguous",
    "lift_fresh_copy",
    "lift_fresh",
    "lift",
    "clone",
    "positive",
    "_to_copy",
    "resolve_conj",
    "resolve_neg",
)


class Graph:
    """The normalised module calls of one trace, and every state they touch."""

    def __init__(self, root: Call, inputs: list[Value], trace: Trace, out_type: Any = None) -> None:
        self.out_type = out_type
        self.root = root
        self.inputs = inputs
        self.training = trace.training
        self.read = frozenset(map(id, trace.states.values()))  # tensors that took part


def normalise(
    trace: Trace,
    module: torch.nn.Module,
    leaf_of: Any = leaves.match,
    extended: dict[int, bases.Base] | None = None,
) -> Graph:
    """Build the call tree of a trace; ``extended``: the modules that extend a layer."""
    return _Builder(trace, module, leaf_of, extended or {}).run()


class _Builder:
    def __init__(
        self, trace: Trace, module: torch.nn.Module, leaf_of: Any, extended: dict[int, bases.Base]
    ) -> None:
        self.trace = trace
        self.leaf_of = leaf_of
        self.extended = extended
        self.env: dict[Any, Any] = {}
        self.same: dict[Any, Any] = {}  # a node whose tensor is another node's
        self.held: dict[Any, Value] = {}  # parameters and buffers, as they were at the start
        self.states: dict[str, Value] = {}  # the same, by path
        self.called: dict[int, Call] = {}  # by record
        self.view_of: dict[Any, tuple[Any, OpRecord]] = {}
        self.stale: set[Any] = set()
        self.parts: dict[
            Any, Any
        ] = {}  # results of chunk, split and unbind: what they are parts of
        self.passed: list[dict[Any, tuple[Any, Value]]] = [{}]  # what calls returned unchanged
        self.flow = True
        self.depends: dict[Any, bool] = {}  # whether what an item makes has a gradient
        self.islands: set[int] = set()  # calls that compute some of it in float32
        self.extents = Extents()
        self.paths = paths_of(module)

    def run(self) -> Graph:
        for node, tensor in self.trace.states.items():
            paths = self.paths.get(id(tensor), ())
            kind = "parameter" if isinstance(tensor, torch.nn.Parameter) else "buffer"
            param = Param(paths, tensor, kind if paths else "constant")
            self.env[node] = Value(tuple(tensor.shape), tensor.dtype, producer=param)
            self.states |= dict.fromkeys(paths, self.env[node])
            if paths:
                self.held[node] = self.env[node]
        inputs = []
        for node in self.trace.inputs:
            val = node.meta.get("val")
            if isinstance(val, torch.Tensor):
                value = self.new(node)
                value.producer = "input"
                self.env[node] = value
                inputs.append(value)
        root = self.call(self.trace.root, None)
        return Graph(root, inputs, self.trace, self.trace.root.out_type)

    # --- values

    def new(self, node: Any, val: Any = None) -> Value:
        val = node.meta["val"] if val is None else val
        return self.extents.of(node, val)

    def root_of(self, node: Any) -> Any:
        while node in self.same:
            node = self.same[node]
        return node

    def read(self, leaf: Any) -> Any:
        """The value, number or constant that a leaf of an argument tree stands for now."""
        if isinstance(leaf, torch.fx.Node):
            node = self.root_of(leaf)
            if node in self.stale:
                self.refresh(node)
            if self.flow and isinstance(value := self.env.get(node), Value):
                self.env[node] = self.cut(value)
            if node not in self.env and isinstance(val := node.meta.get("val"), torch.SymInt):
                return Size(val, ("lit",))  # read inside a layer: found again by its symbol
            return self.env[node]
        if isinstance(leaf, torch.SymInt):
            return self.extents.numbers.get(str(leaf)) or self.symbol(leaf)
        return leaf

    def cut(self, value: Value) -> Value:
        """What was computed under ``torch.no_grad``, with no gradient through it."""
        made = value.producer
        if not isinstance(made, (Op, Call)) or made.flow or not self.differentiable(made):
            return value
        op = Op("detach.default", (value,), {}, current_like(value), made.where)
        op.out.producer = op
        op.out.names = {index: list(names) for index, names in value.names.items()}
        self.current.items.append(op)
        return op.out

    def differentiable(self, made: Any) -> bool:
        """Whether a result depends on weights or inputs in a way that has a gradient."""
        if made not in self.depends:
            self.depends[made] = False
            values = tree_values((made.args, made.kwargs))
            if isinstance(made, Call):
                below = any(p.requires_grad for p in made.module.parameters())
                self.depends[made] = below or any(map(self.carries, values))
            elif made.name != "detach":
                self.depends[made] = any(map(self.carries, values))
        return self.depends[made]

    def carries(self, value: Value) -> bool:
        if not (value.dtype.is_floating_point or value.dtype.is_complex):
            return False
        made = value.producer
        if isinstance(made, Param):
            return made.tensor.requires_grad
        return made == "input" or (isinstance(made, (Op, Call)) and self.differentiable(made))

    def symbol(self, leaf: torch.SymInt) -> Any:
        """An expression for a symbolic size that Python passed along."""
        return Size(leaf, ("lit",))

    def tree(self, tree: Any) -> Any:
        return map_tree(self.read, self.extents.listed(tree))

    def refresh(self, node: Any) -> None:
        """Read a view again after what it looks at has changed."""
        self.stale.discard(node)
        _, record = self.view_of[node]
        self.current.items.append(op := self.plain_op(record, record.node.meta["val"]))
        self.env[node] = op.out
        self.note(record.node, op.out)

    def note(self, node: Any, value: Any) -> None:
        """Attach the names that the source has for a node."""
        if isinstance(value, Value):
            record = self.record
            known = record.names.get(node)
            passed = self.passed[-1].get(self.root_of(node))
            made = value.producer
            by_call = isinstance(made, Call) or getattr(made, "target", "") == "fluxmod.same"
            if known and by_call and passed is not None and passed[1] is value:
                before = passed[0].names.get(record.index, ())
                known = [n for n in known if n not in before]
            if known:
                value.names.setdefault(record.index, []).extend(
                    n for n in known if n not in value.names.get(record.index, ())
                )

    # --- calls

    def call(self, record: CallRecord, parent: Call | None) -> Call:
        leaf = self.leaf_of(record.module)
        if leaf is not None and not takes_arguments(leaf, record):
            leaf = None
        base = self.extended.get(id(record.module))
        if base is not None and base.whole:
            leaf = base.leaf
        out = Call(
            record.index, record.path, record.module,
            self.tree(record.args), self.tree(record.kwargs),
            parent=parent, leaf=leaf, where=record.where, flow=self.flow,
        )  # fmt: skip
        if leaf is not None:
            self.leaf_outputs(record, out)
            return out
        if record.repeats is not None:
            cloned(self.called[id(record.repeats)], out, self.states)
            self.env.update(zip(nodes_of(record.out), tree_values(out.out), strict=True))
            return out
        self.called[id(record)] = out
        saved: Any = getattr(self, "current", None), getattr(self, "record", None)
        self.current, self.record = out, record
        self.passed.append({})
        for node in record.names:
            if (value := self.env.get(self.root_of(node))) is not None:
                self.note(node, value)
        own = [] if base is None else bases.part_of(record, self.trace)
        for item in record.items:
            if isinstance(item, CallRecord):
                called = self.call(item, out)
                out.items.append(called)
                self.note_tree(item.out)
            elif item not in own:
                self.op(item)
            elif item is own[-1]:
                self.own(item, base, out)
        out.out = self.tree(record.out)
        self.leave(record, out, parent)
        self.current, self.record = saved
        return out

    def own(self, record: OpRecord, base: Any, parent: Call) -> None:
        """The operator of the layer that a module extends, as a call of that layer."""
        value = self.new(record.node)
        value.producer = part = Call(
            parent.index, parent.path, parent.module, (self.read(record.args[0]),), {}, value,
            parent=parent, leaf=base.leaf, where=record.where, own=True,
        )  # fmt: skip
        self.env[record.node] = value
        self.current.items.append(part)
        self.note(record.node, value)

    def leave(self, record: CallRecord, call: Call, parent: Call | None) -> None:
        """End a call: what it only handed through is its own result, and its caller's as before."""
        passed = self.passed.pop()
        for node, (before, after) in passed.items():
            if self.env.get(node) is after:
                self.env[node] = before
        if parent is None:
            return
        made = {id(v) for item in call.items for v in values_made(item)}

        def one(leaf: Any) -> Any:
            value = self.read(leaf) if isinstance(leaf, torch.fx.Node) else None
            if not isinstance(value, Value) or isinstance(value.producer, Param):
                return self.read(leaf)
            node = self.root_of(leaf)
            if node in passed and value is passed[node][0]:
                inner = passed[node][1]
                self.passes(node, inner)
                return inner
            if id(value) in made:
                return value
            result = current_like(value)
            op = Op("fluxmod.same", (value,), {}, result, record.where)
            result.producer = op
            call.items.append(op)
            self.passes(node, result)
            return result

        call.out = map_tree(one, self.extents.listed(record.out))

    def passes(self, node: Any, value: Value) -> None:
        """Let a node stand for a call's result until the call around it ends."""
        self.passed[-1].setdefault(node, (self.env[node], value))
        self.passed[-1][node] = (self.passed[-1][node][0], value)
        self.env[node] = value

    def note_tree(self, tree: Any) -> None:
        def one(leaf: Any) -> None:
            if isinstance(leaf, torch.fx.Node):
                self.note(leaf, self.env.get(self.root_of(leaf)))

        map_tree(one, tree)

    def leaf_outputs(self, record: CallRecord, call: Call) -> None:
        """New values for what a layer returns; an in-place layer also changes its argument."""
        written = [
            r.args[0]
            for r in records_of(record)
            if writes_in_place(r) and r.args and self.is_outer(r.args[0])
        ]

        def one(leaf: Any) -> Any:
            if not isinstance(leaf, torch.fx.Node):
                return leaf
            value = self.new(leaf)
            value.producer = call
            node = self.root_of(leaf)
            if node in self.env and not written:
                self.passes(node, value)  # it returned what it was given
                return value
            self.env[leaf] = value
            self.same.pop(leaf, None)
            self.stale.discard(leaf)
            return value

        call.out = map_tree(one, record.out)
        outputs = [v for v in nodes_of(record.out)]
        for node in written:
            target = self.root_of(node)
            if outputs and not isinstance(getattr(self.env.get(target), "producer", None), Param):
                self.write(target, self.env[outputs[0]], self_node=outputs[0])

    def is_outer(self, node: Any) -> bool:
        return self.root_of(node) in self.env

    # --- operators

    def op(self, record: OpRecord) -> None:
        node, target = record.node, record.node.target
        text = str(target)
        if text.endswith("_set_grad_enabled") or "_set_grad_enabled" in text:
            self.flow = bool(record.args[0])
            return
        if isinstance(target, torch._ops.HigherOrderOperator):
            cond(self, record)
            return
        if not isinstance(target, torch._ops.OpOverload):
            self.python_op(record)
            return
        name = plain_name(text)
        if name in _DROPPED:
            return
        number = name.startswith("sym_") and name != "sym_size"
        if number or (name in ("item", "_local_scalar_dense") and is_known(node.meta.get("val"))):
            self.env[node] = Size(node.meta.get("val"), ("lit",))
            return
        if name == "sym_size":
            size = self.extents.settled(node.meta["val"])
            if not self.is_outer(record.args[0]):  # of an array inside a layer
                self.env[node] = Size(size, ("lit",))
                return
            value = self.read(record.args[0])
            axis = record.args[1] % value.rank
            self.env[node] = Size(size, ("dim", value, axis))
            return
        if self.is_identity(name, record):
            if same_memory(node, record.args[0]):
                self.same[node] = self.root_of(record.args[0])
            else:  # a copy: writes to one do not reach the other
                self.env[node] = self.read(record.args[0])
            self.note(node, self.read(node))
            return
        if writes_in_place(record):
            self.in_place(record, name)
            return
        if name in _CASTS and same_memory(node, record.args[0]):  # it is in that dtype while traced
            root = self.root_of(record.args[0])
            op = self.plain_op(record, node.meta["val"])
            self.current.items.append(op)
            self.same[node] = root
            self.passes(root, op.out)
            self.note(node, op.out)
            return
        if name == "batch_norm" and record.args[5] is True:
            batch_norm(self, record)
            return
        val = node.meta.get("val")
        self.extents.note(record)
        if isinstance(val, (tuple, list)):
            values = [self.new(node, v) if isinstance(v, torch.Tensor) else None for v in val]
            op = self.plain_op(record, values)
            self.env[node] = values
        elif isinstance(val, torch.Tensor):
            op = self.plain_op(record, val)
            self.env[node] = op.out
            self.note(node, op.out)
        else:
            whole = isinstance(val, torch.SymInt)
            op = self.plain_op(record, Value((), torch.int64 if whole else torch.float32))
            self.env[node] = op.out
            if whole:
                self.extents.numbers[str(val)] = op.out
        self.current.items.append(op)
        if isinstance(val, torch.Tensor) and record.args and same_memory(node, record.args[0]):
            self.view_of[node] = (self.root_of(record.args[0]), record)
            self.read_back(node, record)

    def read_back(self, node: Any, record: OpRecord) -> None:
        """What was just written through a view is what the same view reads."""
        back = getattr(self.env.get(self.view_of[node][0]), "producer", None)
        if not isinstance(back, Op) or back.target != "fluxmod.write_back":
            return
        _, value, name, arguments = back.args
        if (str(record.node.target).removeprefix("aten."), self.tree(record.args[1:])) == (
            name,
            arguments,
        ):
            self.env[node] = value
            self.current.items.pop()

    def python_op(self, record: OpRecord) -> None:
        """getitem on several results, and arithmetic on sizes."""
        node = record.node
        name = getattr(record.node.target, "__name__", str(record.node.target))
        if name == "getitem":
            source, index = record.args
            values = self.read(source)
            value = values[index]
            self.env[node] = value
            whole = source.args[0] if source.args else None
            if isinstance(value, Value) and same_memory(node, whole):
                self.parts[node] = self.root_of(whole)
            self.note(node, value)
            return
        val = node.meta.get("val")
        symbols = {"mul": "*", "add": "+", "sub": "-", "floordiv": "//", "mod": "%", "truediv": "/"}
        if name in symbols and len(record.args) == 2:
            left, right = (as_size(self.read(a)) for a in record.args)
            self.env[node] = Size(val, ("op", symbols[name], left, right))
            return
        self.env[node] = Size(val, ("lit",))

    def plain_op(self, record: OpRecord, out: Any, name: str | None = None) -> Op:
        """An operator with its arguments read and the source's numbers attached."""
        if isinstance(out, torch.Tensor):
            out = self.new(record.node, out)
        target = name or str(record.node.target).removeprefix("aten.")
        if overrides.active().operator(str(record.node.target)) is not None:
            target = f"override.{record.node.target}"
        op = Op(
            target,
            self.tree(record.args),
            self.tree(record.kwargs),
            out,
            record.where,
            call_text=record.text,
            flow=self.flow,
        )
        op.hints = map_tree(self.hint, record.hints)
        respell(op, record, self.uncast)
        self.extents.respell(op)
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if value is not None:
                value.producer = op
        return op

    def uncast(self, node: Any) -> Any:
        """An array as it was before this call cast it; torch does not tell the two apart."""
        passed = self.passed[-1].get(self.root_of(node))
        return passed[0] if passed is not None else self.read(node)

    def hint(self, leaf: Any) -> Any:
        """A number of the source, with the tensors it was read from as values."""
        if not isinstance(leaf, Size):
            return leaf
        if leaf.form[0] in ("dim", "dtype"):
            node = self.root_of(leaf.form[1])
            value = self.env.get(node)
            if leaf.form[0] == "dtype" and node in self.passed[-1]:
                value = self.passed[-1][node][0]
            if not isinstance(value, Value):
                return None
            return Size(leaf.value, (leaf.form[0], value, *leaf.form[2:]))
        form = tuple(self.hint(f) if isinstance(f, Size) else f for f in leaf.form)
        if any(f is None for f in form):
            return None
        return Size(leaf.value, form)

    def is_identity(self, name: str, record: OpRecord) -> bool:
        """Operators that return what they were given."""
        if name == "detach":
            made = getattr(self.env.get(self.root_of(record.args[0])), "producer", None)
            return not self.flow or (isinstance(made, Param) and made.kind == "constant")
        if name in _CASTS:
            before, after = record.args[0].meta["val"], record.node.meta["val"]
            if before.dtype != after.dtype:
                return False
            if before.dtype not in (torch.float32, torch.float64):
                return True
            if "float32" in record.text or ".float(" in record.text:
                self.islands.add(self.current.index)
                return False
            return cast_back(record) is None or self.current.index not in self.islands
        if name == "expand" or name == "expand_as":
            before, after = record.args[0].meta["val"], record.node.meta["val"]
            return [str(s) for s in before.shape] == [str(s) for s in after.shape]
        if name == "slice":
            _, _, start, end, *step = (*record.args, None, None, None)[:5]
            whole = isinstance(end, int) and end >= _END or end is None
            return start in (0, None) and whole and (not step or step[0] in (None, 1))
        if name in ("add", "sub"):  # positions + 0: what came before, without a cache
            left, right = record.args[:2]
            whole = isinstance(left, torch.fx.Node) and not node_dtype(left).is_floating_point
            return type(right) is int and right == 0 and whole and not writes_in_place(record)
        if name in ("view", "reshape") and isinstance(record.args[0], torch.fx.Node):
            before, after = record.args[0].meta["val"], record.node.meta["val"]
            return [str(s) for s in before.shape] == [str(s) for s in after.shape]
        return name in _SAME

    # --- writes

    def in_place(self, record: OpRecord, name: str) -> None:
        """``x.op_()`` as ``x = x.op()``, also through views."""
        node = record.node
        target = self.root_of(record.args[0])
        current = self.read(record.args[0])
        plain = name.rstrip("_")
        overload = str(node.target).removeprefix("aten.").partition(".")[2]
        self.same[node] = target
        if self.is_identity(plain, record):
            return
        if plain == "copy":
            new = self.read(record.args[1])
            if isinstance(new, Value) and (new.shape, new.dtype) == (current.shape, current.dtype):
                if new is not current:  # not ``x[i] = x[i]``, the second half of ``x[i] += 1``
                    self.write(target, new)
                return
        op = self.plain_op(record, current_like(current), f"{plain}.{overload}")
        self.current.items.append(op)
        self.write(target, op.out)
        self.note(node, op.out)

    def write(self, target: Any, value: Value, self_node: Any = None, child: Any = None) -> None:
        """Let ``target`` hold ``value``, and everything that shares its storage follow."""
        if target in self.parts or target in self.parts.values():
            raise UnsupportedOpError(
                f"port: {self.current.path or 'the model'} writes in place into the parts that "
                "chunk, split or unbind gave, or into what they are parts of. Write into a slice, "
                f"x[:, a:b], or make a new array.\n    near {self.current.where or 'its forward'}"
            )
        self.env[target] = value
        self.stale.discard(target)
        if (state := self.held.get(target)) is not None:
            if not self.flow:
                value = self.cut(value)
            op = Op("fluxmod.store", (state, value), {}, current_like(value), self.current.where)
            op.out.producer = op
            self.env[target] = op.out
            self.current.items.append(op)
        if target in self.view_of:
            parent, record = self.view_of[target]
            whole = self.read(parent)
            name = str(record.node.target).removeprefix("aten.")
            back = Op(
                "fluxmod.write_back", (whole, value, name, self.tree(record.args[1:])), {},
                current_like(whole), record.where,
            )  # fmt: skip
            back.hints = map_tree(self.hint, record.hints)
            back.out.producer = back
            self.current.items.append(back)
            if isinstance(whole.names, dict):
                back.out.names = {k: list(v) for k, v in whole.names.items()}
            self.write(parent, back.out, child=target)
        for view, (parent, _) in self.view_of.items():
            if parent is target and view not in (child, self_node):
                self.make_stale(view)

    def make_stale(self, view: Any) -> None:
        self.stale.add(view)
        for other, (parent, _) in self.view_of.items():
            if parent is view:
                self.make_stale(other)

"""What is noted while torch traces a module: its calls, its operators, the words of its source.

Every module call is recorded with its arguments and result, and every operator with the names of
the tensors alive and the expressions that the source has for its numbers.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch.fx.experimental import proxy_tensor

from fluxmod._transformers import cast_to_their_own

from .decisions import assumption, decide, shortcut
from .guards import guarded, mask_asked
from .ir import nodes_of
from .questions import answered
from .repeats import Repeats
from .rows import is_open, open_symbols
from .sites import Numbers, call_site, function_of, source_at
from .spans import Branch, Span, Visit, ancestors, candidates

__all__ = ["CallRecord", "OpRecord", "Recorder", "recording", "records_of"]

_TORCH = os.path.dirname(torch.__file__)
_TRACER = proxy_tensor._ModuleStackTracer


@dataclass(eq=False)
class OpRecord:
    """A node of the traced graph, and what the source says at its place."""

    node: torch.fx.Node
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    text: str = ""
    hints: dict[Any, Any] = field(default_factory=dict)
    order: int = 0


@dataclass(eq=False)
class CallRecord:
    """A module call as Python made it; tensors stand as the graph's nodes."""

    module: torch.nn.Module
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parent: CallRecord | None
    index: int
    items: list[Any] = field(default_factory=list)
    out: Any = None
    out_type: Any = None
    names: dict[Any, list[str]] = field(default_factory=dict)
    where: str = ""
    size: int = 1  # calls in it, itself included
    repeats: CallRecord | None = None  # the call that was traced in its place


def records_of(record: CallRecord | None) -> Iterator[OpRecord]:
    """The operators of a call and of those in it."""
    for item in record.items if record is not None else ():
        if isinstance(item, CallRecord):
            yield from records_of(item)
        else:
            yield item


def _settings(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Whole numbers that a model keeps as buffers and no checkpoint has: strides, paddings."""
    saved = module.state_dict(keep_vars=True)
    return {
        name: buffer
        for name, buffer in module.named_buffers()
        if name not in saved and not buffer.is_floating_point() and not buffer.is_meta
    }


class Recorder:
    """Collects calls and operators while a module is being traced."""

    def __init__(self, module: torch.nn.Module, *, repeating: bool = True) -> None:
        self.module = module
        self.paths: dict[int, str] = {}
        for path, child in module.named_modules(remove_duplicate=False):
            self.paths.setdefault(id(child), path)
        self.root: CallRecord | None = None
        self.stack: list[CallRecord] = []
        self.tracer: Any = None
        self.failed = ""  # the module in which the tracing stopped
        self.calls = 0
        self.ops = 0
        self.placeholders: list[torch.fx.Node] = []
        self.attributes: dict[torch.fx.Node, torch.Tensor] = {}
        self.settings = _settings(module)
        self.repeats = Repeats(module, repeating)
        self.numbers = Numbers(self.node_of, self.repeats.unseen)
        self.muted = False
        self.assumed: dict[str, None] = {}
        self.spans: list[Span] = []  # statements that torch runs for rows that values choose
        self.unclear: list[str] = []  # where a number of rows decides about other statements
        self.branches: list[Branch] = []  # those of them that are being executed
        self.held: list[Any] = []  # tensors alive: their ids must not be used again

    def node_of(self, tensor: torch.Tensor) -> Any:
        """The node that a tensor stands for now."""
        slot = proxy_tensor.get_proxy_slot(tensor, self.tracer, None)
        return None if slot is None else slot.proxy.node

    def known(self) -> dict[torch.fx.Node, torch.Tensor]:
        """Nodes whose values no input and no checkpoint can change."""
        found = dict(self.attributes)
        for name, value in self.settings.items():
            node = self.node_of(self.module.get_buffer(name))
            if node is not None and node.op == "placeholder":
                found[node] = value
        return found

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What a tensor holds at every call of the model, None where inputs decide."""
        if not self.stack or self.tracer is None:
            return None
        node = self.node_of(tensor)
        value = None if node is None else decide(node, self.known())
        if value is not None:
            self.note(assumption(node), sys._getframe(2))
        return value

    def kept(self, tensor: torch.Tensor, frame: FrameType) -> bool | None:
        """The answer with which an array is kept that Python would leave out if it did nothing."""
        if not self.stack or self.tracer is None or (node := self.node_of(tensor)) is None:
            return None
        if (found := shortcut(node, frame)) is None:
            return self.taken(node, frame)
        answer, name = found
        self.note(f"torch leaves `{name}` out where it changes nothing; the port keeps it", frame)
        return answer

    def taken(self, node: torch.fx.Node, frame: FrameType) -> bool | None:
        """The answer with which statements run that torch skips where a mask chooses nothing."""
        if (asked := mask_asked(node)) is None:
            return None
        mask, answer = asked
        if (lines := guarded(frame, answer)) is None:
            return None
        self.enter(Branch(self.ops, self.ops, mask, None, frame, lines))
        return answer

    def sized(self, question: torch.SymBool, answer: bool, frame: FrameType) -> None:
        """Watch statements that run because some rows were found, and torch skips if none are."""
        about_rows = open_symbols(question.node.expr)
        if not self.stack or not about_rows or not _is_written(frame):
            return
        if (lines := guarded(frame, answer)) is None:
            where, _ = self.look(frame)
            self.unclear.append(where)
        else:
            self.enter(Branch(self.ops, self.ops, None, question, frame, lines))

    def enter(self, branch: Branch) -> None:
        """Watch the operators of a branch until it is over."""
        self.branches.append(branch)
        self.spans.append(branch)

    def leave_branches(self, frame: FrameType | None) -> None:
        """End the branches that are over when the next operator comes."""
        for branch in [b for b in self.branches if not b.runs(frame)]:
            branch.end, branch.frame = self.ops, None
            self.branches.remove(branch)

    def each(self, tensor: torch.Tensor) -> Iterator[torch.Tensor] | None:
        """Every row that an array with a number of rows that values decide can have."""
        if (
            not self.stack
            or self.tracer is None
            or not tensor.dim()
            or not is_open(tensor.shape[0])
        ):
            return None
        node = self.node_of(tensor)
        rows = candidates(node)
        return None if rows is None else self.visit(rows, node)

    def visit(self, rows: list[torch.Tensor], node: Any) -> Iterator[torch.Tensor]:
        """Hand out rows, and note which operators each leads to."""
        made = {r.node: nodes_of((r.args, r.kwargs)) for r in records_of(self.root)}
        basis = ancestors(node, made)
        for number, row in enumerate(rows):
            start = self.ops
            try:
                yield row
            finally:
                self.spans.append(Visit(start, self.ops, self.node_of(row), number, basis))

    def tree(self, tree: Any) -> Any:
        """Replace tensors by their nodes in nested containers."""
        if isinstance(tree, torch.Tensor):
            node = self.node_of(tree)
            return tree if node is None else node
        if isinstance(tree, torch.SymInt):
            return tree
        if isinstance(tree, Mapping):
            return {key: self.tree(value) for key, value in tree.items()}
        if isinstance(tree, (tuple, list)):
            return (
                type(tree)(self.tree(v) for v in tree)
                if type(tree) in (tuple, list)
                else tuple(self.tree(v) for v in tree)
            )
        if hasattr(tree, "__dataclass_fields__"):
            fields = tree.__dataclass_fields__
            return {name: self.tree(getattr(tree, name, None)) for name in fields}
        return tree

    def call_module(self, original: Any, tracer: Any, m: Any, *call: Any) -> Any:
        """Note a call of a module; one that repeats an earlier call is not traced again."""
        forward, args, kwargs = call
        if self.tracer is not None and tracer is not self.tracer:  # inside a branch of torch.cond
            return original(tracer, m, forward, args, kwargs)
        base = tracer.proxy_modules.get(m, m) if tracer.enable_attr_proxy else m
        if self.root is None and base is not self.module:
            return original(tracer, m, forward, args, kwargs)
        if id(base) not in self.paths:
            return original(tracer, m, forward, args, kwargs)
        where, _ = self.look(sys._getframe(2))
        parent = self.stack[-1] if self.stack else None
        record = CallRecord(
            base,
            self.paths[id(base)],
            tuple(self.tree(a) for a in args),
            {k: self.tree(v) for k, v in kwargs.items()},
            parent,
            self.calls,
            where=where,
        )
        self.calls += 1
        if parent is None:
            self.root = record
        else:
            parent.items.append(record)
        key = parent and self.repeats.key(base, args, kwargs, self.node_of)
        record.repeats = key and self.repeats.find(key, base)
        if record.repeats is not None:
            self.muted = True
            out = self.repeats.outputs(record.repeats)
            self.muted = False
            self.calls = record.index + record.repeats.size
        else:
            with self.repeats.reading() as reads:
                out = self.forward(record, original, tracer, m, forward, args, kwargs)
        record.size = self.calls - record.index
        record.out = self.tree(out)
        plain = isinstance(out, torch.Tensor) or type(out) in (tuple, list, dict)
        record.out_type = None if plain else type(out)
        self.held.append((args, kwargs, out))
        if key and record.repeats is None:
            self.repeats.learn(key, record, reads, out)
        if parent is None and hasattr(out, "__dataclass_fields__") and not isinstance(out, Mapping):
            return {name: getattr(out, name) for name in out.__dataclass_fields__}  # for export
        return out

    def note(self, text: str | None, frame: FrameType) -> None:
        """Remember what a decision took for granted."""
        if text:
            where, _ = self.look(frame)
            self.assumed.setdefault(f"{text} (at {where})")

    def forward(self, record: CallRecord, original: Any, *call: Any) -> Any:
        """Let torch run a module's forward."""
        self.stack.append(record)
        try:
            return original(*call)
        except Exception:
            self.failed = self.failed or record.path
            raise
        finally:
            self.stack.pop()

    def create_node(self, original: Any, tracer: Any, *args: Any, **kwargs: Any) -> Any:
        """Note a node of the graph in the call that makes it."""
        node = original(tracer, *args, **kwargs)
        if self.tracer is None:
            self.tracer = tracer
        if tracer is not self.tracer:
            return node
        if node.op == "placeholder":
            self.placeholders.append(node)
        elif node.op == "get_attr":
            self.attributes[node] = getattr(tracer.root, node.target)
        elif self.muted:
            node.meta["repeated"] = True
        elif node.op != "output" and self.stack:
            self.leave_branches(sys._getframe(2) if self.branches else None)
            record = OpRecord(node, node.args, dict(node.kwargs), order=self.ops)
            self.ops += 1
            self.stack[-1].items.append(record)
            record.where, record.text = self.look(sys._getframe(2), record)
        return node

    def look(self, frame: FrameType | None, record: OpRecord | None = None) -> tuple[str, str]:
        """Read names and numbers from the frames between here and the running ``forward``."""
        if not self.stack:
            return "", ""
        current = self.stack[-1]
        forward = vars(current.module).get("forward", type(current.module).forward)
        code = getattr(forward, "__code__", None)
        frames: list[FrameType] = []
        while frame is not None:
            name = frame.f_code.co_filename
            made = name.startswith("<eval_with_key>")  # a graph of torch's, not a source
            ours = not made and not name.startswith(_TORCH) or f"{os.sep}nn{os.sep}modules" in name
            if ours and frame.f_code is not _CREATE and "fluxmod/porter" not in name:
                if function_of(frame.f_code) is not None:
                    frames.append(frame)
            if frame.f_code is code or frame.f_code.co_name == "call_module":
                if frame.f_code is code or (frames and name.startswith(_TORCH)):
                    break
            frame = frame.f_back
        if not frames:
            return "", ""
        self.numbers.module = current.module
        for each in reversed(frames):
            self.numbers.sync(each)
            self._note_names(each, current)
        innermost = frames[0]
        if record is not None:
            self._hints(innermost, record)
        text = _linetext(innermost)
        return f"{innermost.f_code.co_filename}:{innermost.f_lineno}", text

    def _note_names(self, frame: FrameType, call: CallRecord) -> None:
        for name, value in frame.f_locals.items():
            if isinstance(value, torch.Tensor):
                node = self.node_of(value)
                if node is not None:
                    known = call.names.setdefault(node, [])
                    if name not in known:
                        known.append(name)

    def _hints(self, frame: FrameType, record: OpRecord) -> None:
        """Evaluate the numbers among an operator's arguments as the source writes them."""
        site = source_at(frame)
        positional, named = call_site(site)
        if isinstance(site, ast.Call) and _is_method(frame, site):
            positional = [site.func.value, *positional]  # type: ignore[attr-defined]
        values = [self.numbers.evaluate(frame, p) for p in positional]
        if isinstance(site, ast.Call) and _ends(site, "type_as"):
            values = [None, *(self.numbers.dtype_of(frame, p) for p in positional[1:])]
        if isinstance(site, ast.Subscript):
            record.hints = {"index": self._index_hints(frame, site.slice)}
            return
        record.hints = {
            "args": values,
            "kwargs": {k: self.numbers.evaluate(frame, v) for k, v in named.items()},
        }

    def _index_hints(self, frame: FrameType, node: Any) -> list[Any]:
        """The bounds and positions in a subscript: a triple for a slice, a Size for an index."""
        elements = node.elts if isinstance(node, ast.Tuple) else [node]
        found: list[Any] = []
        for element in elements:
            if isinstance(element, ast.Slice):
                bounds = (element.lower, element.upper, element.step)
                found.append(
                    tuple(None if b is None else self.numbers.evaluate(frame, b) for b in bounds)
                )
            else:
                found.append(self.numbers.evaluate(frame, element))
        return found


def _is_written(frame: FrameType) -> bool:
    """Whether a frame runs a user's source."""
    name = frame.f_code.co_filename
    ours = name.startswith((_TORCH, os.path.dirname(__file__)))
    return not ours and function_of(frame.f_code) is not None


def _linetext(frame: FrameType) -> str:
    """The expression that a frame is evaluating, as text."""
    node = source_at(frame)
    return "" if node is None else ast.unparse(node)


def _ends(site: ast.Call, name: str) -> bool:
    return isinstance(site.func, ast.Attribute) and site.func.attr == name


def _is_method(frame: FrameType, site: Any) -> bool:
    """Whether a call is ``tensor.method(...)`` rather than ``module.function(...)``."""
    function = site.func
    if not isinstance(function, ast.Attribute):
        return False
    root: Any = function.value
    while isinstance(root, ast.Attribute):
        root = root.value
    if not isinstance(root, ast.Name):
        return True
    if root.id in frame.f_locals:
        return True
    return not inspect.ismodule(frame.f_globals.get(root.id))


_CREATE = _TRACER.create_node.__code__


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """While torch traces, let a recorder see each call and each question for a value."""
    node, call = _TRACER.create_node, _TRACER.call_module
    owner = threading.get_ident()

    def create_node(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner:
            return node(self, *args, **kwargs)
        return recorder.create_node(node, self, *args, **kwargs)

    def call_module(self: Any, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        return recorder.call_module(call, self, m, forward, args, kwargs)

    with (
        mock.patch.object(_TRACER, "create_node", create_node),
        mock.patch.object(_TRACER, "call_module", call_module),
        cast_to_their_own(),
        answered(recorder),
    ):
        yield

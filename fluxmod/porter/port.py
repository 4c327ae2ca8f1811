"""``port``: a torch module in, a Flax NNX module out, with the source that it runs."""

from __future__ import annotations

import inspect
import itertools
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils._pytree as pytree
from flax import nnx

from fluxmod._errors import CaptureError, PortError, UnsupportedOpError
from fluxmod.nn._stack import places

from . import bases, layout, lower, overrides, paths
from .arrays import as_numbers
from .build import build, on_meta
from .capture import capture
from .classes import ClassCode
from .emit import module_text
from .groups import Telling, group_instances, merge_calls, same_code, telling
from .ir import Call, Op, Param, Value, calls_of, map_tree, tree_values
from .leaves import Leaf
from .leaves import match as leaf_match
from .modes import join_modes
from .normalise import Graph, normalise
from .partition import (
    attach_sizes,
    choose_results,
    fuse_subscripts,
    lift,
    mark_chains,
    pair_modes,
    prune,
    simplify_writes,
)
from .rows import mixed_rows
from .specs import Instance, Specs
from .splicing import splice
from .standalone import standalone_text
from .tables import Tables
from .words import Body, Obstacle, Unported, refused
from .write import write

__all__ = ["Options", "Port", "beside", "notes", "port", "source", "translate"]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of ``port``.

    Args:
        layout: "flax" takes feature maps channels-last; "torch" keeps torch's order at the model's
            boundary.
        dynamic: axes, in torch's order, whose size may differ from the example's, by the name of
            forward's argument: ``{"x": (0, 2, 3)}``. Without it the batch is free, and the length
            of two-dimensional integer inputs.
        overrides: what stands in for an operator (``"ns::op"``) or for a module (its class or its
            path): a function of arrays in torch's order of axes, or a class of ``nnx.Module``
            whose constructor's arguments are attributes of the torch module. Functions and
            classes, or their dotted names; the written file imports them.
        scan: a loop over equal blocks becomes ``nnx.scan`` over stacked parameters, so that the
            time to compile does not grow with depth; ``porter.notes`` says which loops stay.
        kwargs: forward arguments that are called ``options`` in the model's own signature.
    """

    layout: str = "flax"
    dynamic: Mapping[str, Sequence[int]] | None = None
    overrides: Mapping[Any, Any] = field(default_factory=dict)
    scan: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layout not in ("flax", "torch"):
            raise ValueError(f"porter.Options: layout is 'flax' or 'torch', got {self.layout!r}.")


@dataclass(frozen=True)
class Port:
    """What is known about a ported model beside its weights."""

    text: str
    name: str
    seconds: dict[str, float]
    classes: int
    torch_classes: int
    inputs: tuple[tuple[Any, ...], ...] = ()  # name, shape, dtype, channel axis
    out_dtypes: tuple[str, ...] = ()
    out_tree: Any = None  # what torch returns, values in place of tensors
    out_type: Any = None  # the dataclass or named tuple that torch returns, if it is one
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # given as plain values, left out


_PORTS: weakref.WeakKeyDictionary[nnx.Module, Port] = weakref.WeakKeyDictionary()


class _Program:
    """The bodies written so far; what a writer may ask about the rest of the model."""

    def __init__(self, root: torch.nn.Module, declined: set[str]) -> None:
        self.root = root
        self.declined = declined
        self.bodies: dict[int, Body] = {}
        self.told: dict[int, Telling] = {}  # what tells the calls of a module apart
        self.of_sizes: set[int] = set()  # modules that are called with several sizes

    def signature(self, call: Call) -> list[tuple[str, str | None, str]]:
        return self.bodies[call.index].signature

    def __call__(self, writer: Any, value: Value) -> str:
        """Text of a constant that no module holds."""
        param: Param = value.producer
        if param.kind != "constant":
            raise Unported(f"uses {param.paths[0]}, which belongs to another module")
        tensor = param.tensor
        if tensor.numel() > 16:
            name = writer.fresh(["table"])
            writer.body.lines.append(f"{name} = {as_numbers(tensor)}")
            writer.rebind(name, value)
            return name
        if not tensor.dim():
            number = str(writer.literal(tensor.item()))
            kept = tensor.is_floating_point() and _goes_into_a_number(writer.call, value)
            return f"{lower.DTYPES[tensor.dtype]}({number})" if kept else number
        dtype = "" if tensor.dtype == torch.float32 else f", {lower.DTYPES[tensor.dtype]}"
        return f"jnp.array({tensor.tolist()!r}{dtype.replace('jnp.int64', 'int')})"

    def run(self, root: Call) -> None:
        """Write every body; again, where calls of one module do different things."""
        self.write(root)
        calls: dict[int, list[Body]] = {}
        for call in calls_of(root):
            if call.index in self.bodies:
                calls.setdefault(id(call.module), []).append(self.bodies[call.index])
        for key, bodies in calls.items():
            if (told := telling(bodies)) is not None:
                self.told[key] = told
            elif any(b.lines == bodies[0].lines and not same_code(bodies[0], b) for b in bodies):
                self.of_sizes.add(key)
        if self.told or self.of_sizes:
            self.write(root)

    def write(self, call: Call) -> None:
        for item in call.items:
            if isinstance(item, Call) and item.leaf is None:
                self.write(item)
        if not call.chain and call.leaf is None:
            self.bodies[call.index] = write(call, self.root, self)


def port(
    torch_module: torch.nn.Module, *args: Any, options: Options | None = None, **kwargs: Any
) -> nnx.Module:
    """Turn a torch module into a Flax NNX module that runs readable source and holds its weights.

    Args:
        torch_module: any module whose forward ``torch.export`` can trace. One on the meta device
            gives a model of shapes without values, for ``convert.to_flax(file, model)`` to fill.
        *args, **kwargs: example inputs in torch's layout, with a batch of two or more.
        options: layout and more.

    Returns:
        An ``nnx.Module``; ``porter.source(model)`` is the text it runs. Maps are channels-last, as
        ``porter.inputs(model)`` says.

    Raises:
        CaptureError: torch cannot trace the module.
        UnsupportedOpError: some of it has no counterpart; all obstacles are listed.
        PortError: the source could not be built.

    >>> import jax.numpy as jnp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> ported = port(net, torch.randn(2, 4))
    >>> ported(jnp.ones((5, 4))).shape
    (5, 3)
    """
    result = translate(torch_module, *args, options=options, **kwargs)
    start = time.perf_counter()
    model = build(result.text, result.name, torch_module)
    result.seconds["build"] = time.perf_counter() - start
    if type(model).__module__.startswith("fluxmod_port_"):
        type(model)._fluxmod_port = result  # type: ignore[attr-defined]
    _PORTS[model] = result
    return model


def translate(
    torch_module: torch.nn.Module, *args: Any, options: Options | None = None, **kwargs: Any
) -> Port:
    """Write the source alone; nothing is built and no weight is read."""
    options = options or Options()
    args, kwargs = beside(torch_module, (args, {**kwargs, **options.kwargs}))
    with overrides.using(overrides.resolve(options.overrides, torch_module)):
        return _translate(torch_module, args, kwargs, options)


def _translate(
    torch_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Port:
    start = time.perf_counter()

    def traced(training: bool) -> Any:
        return capture(torch_module, args, kwargs, training=training, free=options.dynamic)

    traces = [traced(False)]
    lost = ""
    try:
        traces.append(traced(True))
    except CaptureError as error:
        lost = f"training mode could not be traced: {error}"
    seconds = {"capture": time.perf_counter() - start}
    start = time.perf_counter()
    try:
        result = _written(torch_module, traces, lost, options)
    except UnsupportedOpError as error:
        if lost:
            raise
        try:  # what training alone needs shall not keep evaluation from running
            lost = f"training mode could not be written: {error}"
            result = _written(torch_module, [traced(False)], lost, options)
        except UnsupportedOpError:
            raise error from None
    seconds["write"] = time.perf_counter() - start
    result.seconds.update(seconds)
    return result


def _written(torch_module: torch.nn.Module, traces: list[Any], lost: str, options: Options) -> Port:
    """The source for one mode or both; ``lost`` says why training is not among them."""
    notes = [lost] if lost else []
    notes += dict.fromkeys(text for trace in traces for text in trace.assumed)
    leaf_of, declined = _leaf_of(torch_module)
    extended = bases.find(torch_module, traces)
    graphs = [normalise(trace, torch_module, leaf_of, extended) for trace in traces]
    if mixed := [found for each in graphs for found in mixed_rows(each.root)]:
        raise refused(torch_module, mixed)
    splice([each.root for each in graphs])
    for each in graphs:
        lift(each.root)
        prune(each.root)
        _missing(each.root, torch_module)
        simplify_writes(each.root)
    if len(graphs) > 1:
        pair_modes(graphs[0].root, graphs[1].root)
    programs = []
    for each in graphs:
        _arrange(each, torch=options.layout == "torch")
        mark_chains(each.root)
        program = _Program(torch_module, declined)
        program.run(each.root)
        programs.append((each, program))
    if lost:
        what = f"{type(torch_module).__name__}: training could not be ported; call eval() first."
        refusal = ["if self.training:", f"    raise NotImplementedError({what!r})"]
        for body in _outermost(graphs[0].root, program.bodies):
            body.lines[:0] = refusal
    return _assemble(torch_module, programs, notes, declined, scan=options.scan)


def _outermost(call: Call, bodies: dict[int, Body]) -> Iterator[Body]:
    """The bodies that run first: the model's own, or those in a Sequential without one."""
    if call.index in bodies:
        yield bodies[call.index]
        return
    for item in call.items:
        if isinstance(item, Call) and item.leaf is None:
            yield from _outermost(item, bodies)


def _arrange(graph: Graph, *, torch: bool) -> None:
    """Bring a graph into the form that the writer takes: sizes by name, axes in their order."""
    fuse_subscripts(graph.root)
    attach_sizes(graph.root)
    prune(graph.root)
    choose_results(graph.root)
    layout.assign(graph, frozenset(lower.ELEMENTWISE), torch=torch)
    prune(graph.root)


def beside(root: torch.nn.Module, inputs: Any) -> Any:
    """Inputs on the meta device if the model is there: torch does not mix it with others."""
    if not on_meta(root):
        return inputs
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), inputs)


def _assemble(
    root: torch.nn.Module,
    programs: list[tuple[Any, _Program]],
    notes: list[str],
    declined: set[str],
    *,
    scan: bool,
) -> Port:
    graph, program = programs[0]
    layers: dict[str, Leaf] = {}
    extends: dict[int, Leaf] = {}
    for call in itertools.chain.from_iterable(calls_of(g.root) for g, _ in programs):
        if call.own:
            extends.setdefault(id(call.module), call.leaf)
        elif call.leaf is not None:
            layers.setdefault(call.path, call.leaf)
    calls = [c for c in calls_of(graph.root) if not c.own]
    code = {id(c.module) for c in calls if c.leaf is None and not c.chain}
    called = {id(c.module) for c in calls}
    read = {tensor for each, _ in programs for tensor in each.read}
    specs = Specs(root, layers, code, called, declined, read, extends)
    main = specs.of(root, "")
    if not isinstance(main, Instance):
        main = specs.wrapped(root, main)
    by_module: dict[int, list[Instance]] = {}
    for each in specs.instances:
        by_module.setdefault(id(each.module), []).append(each)
    obstacles: list[Obstacle] = []
    others = _bodies_by_module(programs[1]) if len(programs) > 1 else {}
    for call in calls:
        if call.leaf is None and not call.chain:
            body = program.bodies[call.index]
            instances = by_module[id(call.module)]
            twin = others.get(id(call.module))
            if twin:
                join_modes(body, twin[min(len(instances[0].bodies), len(twin) - 1)])
            for instance in instances:
                instance.bodies.append(body)
            obstacles += body.obstacles
    for instance in specs.instances:
        merge_calls(instance.bodies, program.told.get(id(instance.module)))
        first = instance.bodies[:1]
        for other in instance.bodies[1:]:
            if not same_code(first[0], other):
                obstacles.append(
                    Obstacle(
                        instance.path,
                        "two calls of this module do different things",
                        other.call.where,
                    )
                )
    if obstacles:
        raise refused(root, obstacles)
    groups = group_instances(specs.instances)
    codes: list[ClassCode] = []
    tables = Tables(root, _straight, notes)
    for group in _bottom_up(groups, main):
        codes.append(made := ClassCode(group, tables, is_root=main in group.instances))
        try:
            made.run()
        except Unported as error:
            obstacles.append(Obstacle(group.instances[0].path, str(error), group.cls.__qualname__))
    if obstacles:
        raise refused(root, obstacles)
    if specs.aliases:
        _tie(codes[-1], specs, root, {path for code in codes for path in code.resolved})
    origin = f"{type(root).__name__}, ported from torch by fluxmod."
    further = overrides.active().imports
    try:
        text = module_text(codes, origin, tables.functions, further, scan=scan)
    except Unported as error:
        raise refused(root, [Obstacle("", str(error), type(root).__qualname__)]) from None
    used = {type(c.module) for c in calls if c.leaf is None and not c.chain}
    return Port(
        text,
        main.group.name,
        {},
        len(codes),
        len(used),
        _inputs(graph.root),
        tuple(str(v.dtype).removeprefix("torch.") for v in tree_values(graph.root.out)),
        map_tree(_bare, graph.root.out),
        graph.out_type,
        tuple(notes),
        _settings(graph.root, program),
    )


def _goes_into_a_number(call: Call, value: Value) -> bool:
    """Whether a constant is computed with on its own: then its dtype rounds the result."""
    uses = (i for i in call.items if isinstance(i, Op) and any(a is value for a in i.args))
    return any(isinstance(i.out, Value) and not i.out.rank for i in uses)


def _straight(module: torch.nn.Module) -> Body:
    """The body of a module without arguments, weights and children: what computes a table."""
    graph = normalise(capture(module, (), {}, training=False), module)
    simplify_writes(graph.root)
    _arrange(graph, torch=True)
    program = _Program(module, set())
    _missing(graph.root, module)
    program.write(graph.root)
    body = program.bodies[graph.root.index]
    if body.obstacles:
        raise refused(module, body.obstacles)
    return body


def _bare(leaf: Any) -> Any:
    """A value without the graph that it came from."""
    return Value(leaf.shape, leaf.dtype) if isinstance(leaf, Value) else leaf


def _settings(root: Call, program: _Program) -> dict[str, Any]:
    """Arguments by name that torch got as plain values and the source does not take."""
    taken = program.signature(root) if root.index in program.bodies else []
    names = {name for name, _, _ in taken}
    return {k: v for k, v in root.kwargs.items() if k not in names and not any(tree_values(v))}


def _inputs(root: Call) -> tuple[tuple[Any, ...], ...]:
    """The model's arguments: name, shape in Flax, dtype, torch's channel axis."""
    bound = inspect.signature(root.module.forward).bind(*root.args, **root.kwargs).arguments
    trees = {k: v for k, v in bound.items() if k not in ("self", "kwargs")}
    trees |= bound.get("kwargs", {})
    rows = []
    for name, tree in trees.items():
        for value in tree_values(tree):
            order = value.layout
            channel = None if value.order is None else value.order[-1]
            if root.leaf is not None:
                entry = root.leaf.axes().of_input(0)
                if entry is not None and entry.applies_to(value.rank):
                    channel = entry.axis % value.rank
                    order = (*(a for a in order if a != channel), channel)
            letters = _letters(value, channel)
            shape = tuple(letters[a] if value.symbols[a] else value.shape[a] for a in order)
            rows.append((name, shape, str(value.dtype).removeprefix("torch."), channel))
    return tuple(rows)


def _letters(value: Value, channel: int | None) -> list[str]:
    """A letter for each axis, in torch's order: what a size is called where it is free."""
    spatial = value.rank - 1 - (channel is not None)
    maps = channel is not None and 1 < spatial < 4
    letters = ["N", *("DHW"[3 - spatial :] if maps else "L" * spatial)]
    if channel is not None:
        letters.insert(channel, "C")
    return letters


def _tie(code: ClassCode, specs: Specs, root: torch.nn.Module, resolved: set[str]) -> None:
    """What is held twice is set once and shared, at the end of the root's constructor."""
    for path, source in specs.aliases:
        if path in resolved:
            continue
        names = [_stored(root, name, specs) for name in (path, source)]
        code.lines.append(" = ".join(paths.expression(root, name) for name in names))


def _stored(root: torch.nn.Module, path: str, specs: Specs) -> str:
    """The Flax path of a parameter, a module's path as it is."""
    owner, _, _ = path.rpartition(".")
    if path in dict(root.named_modules(remove_duplicate=False)) or owner in specs.declined:
        return path
    return paths.stored_as(root, path)[0]


def _leaf_of(root: torch.nn.Module) -> tuple[Callable[[torch.nn.Module], Leaf | None], set[str]]:
    """Layer or code for each module: a weight tied between layouts makes one of them code."""
    owners: dict[int, list[str]] = {}
    for path, tensor in root.named_parameters(remove_duplicate=False):
        owners.setdefault(id(tensor), []).append(path)
    declined: set[str] = set()
    for tied in owners.values():
        if len(tied) < 2:
            continue
        stored = {p: paths.stored_as(root, p)[1] for p in tied}
        if len(set(stored.values())) > 1:
            declined |= {p.rpartition(".")[0] for p, perm in stored.items() if perm is not None}
    modules = {id(root.get_submodule(path)) for path in declined}
    return (lambda m: None if id(m) in modules else leaf_match(m)), declined


def _bodies_by_module(program: tuple[Any, _Program]) -> dict[int, list[Body]]:
    found: dict[int, list[Body]] = {}
    for call in calls_of(program[0].root):
        if call.leaf is None and not call.chain:
            found.setdefault(id(call.module), []).append(program[1].bodies[call.index])
    return found


def _bottom_up(groups: list[Any], main: Instance) -> list[Any]:
    """Classes in the order in which they can be defined: children first."""
    done: list[Any] = []
    seen: set[int] = set()

    def visit(spec: Any) -> None:
        if isinstance(spec, Instance):
            if id(spec.group) in seen:  # also a class whose instances hold each other
                return
            seen.add(id(spec.group))
            for other in spec.group.instances:
                for child in other.attributes.values():
                    visit(child)
            done.append(spec.group)
        elif hasattr(spec, "children") and isinstance(spec.children, dict):
            for child in spec.children.values():
                visit(child)

    visit(main)
    done += [g for g in groups if g not in done]
    return done


def _missing(root: Call, module: torch.nn.Module) -> None:
    """Report every operator without a rule at once."""
    found: list[Obstacle] = []
    for call in calls_of(root):
        for item in call.items:
            if isinstance(item, Call):
                continue
            if lower.rule_of(item.target) is None:
                found.append(Obstacle(call.path, f"no lowering for {item.target}", item.where))
    if found:
        raise refused(module, found)


def source(model: nnx.Module, *, standalone: bool = False) -> str:
    """The text that a ported model runs.

    Args:
        standalone: with what it uses of ``fluxmod.nn`` written into it, so that it needs jax and
            flax alone. It is a form of the text and no option of ``port``: the model in memory
            keeps the layers of ``fluxmod.nn``, by which ``convert`` and ``parity`` know it.

    Raises:
        PortError: the model was not made by ``port``; a standalone file was asked for of a model
            with stacks, which its ``load`` does not know.
    """
    found = of(model)
    if standalone and any(place.index for place in places(model)):
        raise PortError(
            f"porter.source: {found.name} has stacks (scan=True), which the load of a standalone "
            "file cannot fill. Port it without scan, or take the text without standalone."
        )
    return standalone_text(model, found.text, found.name) if standalone else found.text


def notes(model: nnx.Module) -> tuple[str, ...]:
    """What has to be known about a port beside its source: texts, none if all is as expected."""
    return of(model).notes


def of(model: nnx.Module) -> Port:
    """What ``port`` knows about a model."""
    found = getattr(type(model), "_fluxmod_port", None) or _PORTS.get(model)
    if found is None:
        raise PortError(f"porter: {type(model).__name__} was not made by fluxmod.port.")
    return found

"""``port``: a torch module in, a Flax NNX module out, with the source that it runs."""

from __future__ import annotations

import inspect
import linecache
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from fluxmod import convert, nn
from fluxmod._errors import CaptureError, PortError, UnsupportedOpError

from . import layout, lower, paths
from .capture import capture
from .classes import ClassCode
from .emit import module_text
from .groups import group_instances, merge_calls, same_code, telling
from .ir import Call, Param, Value, map_tree, tree_values
from .leaves import SMALL, Leaf
from .leaves import match as leaf_match
from .normalise import normalise
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
from .specs import Instance, Specs
from .words import Body, Obstacle, Unported
from .write import write

__all__ = ["Options", "Port", "port", "source", "translate"]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of ``port``.

    Args:
        layout: "flax" takes feature maps channels-last; "torch" keeps torch's order at the model's
            boundary.
        kwargs: forward arguments that are called ``options`` in the model's own signature.
    """

    layout: str = "flax"
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
        self.told: dict[int, str] = {}  # the argument that tells the calls of a module apart

    def signature(self, call: Call) -> list[tuple[str, str | None, str]]:
        return self.bodies[call.index].signature

    def __call__(self, writer: Any, value: Value) -> str:
        """Text of a constant that no module holds."""
        param: Param = value.producer
        if param.kind != "constant":
            raise Unported(f"uses {param.paths[0]}, which belongs to another module")
        tensor = param.tensor
        if tensor.numel() > SMALL:
            raise Unported(f"a constant of {tensor.numel()} numbers; register it as a buffer")
        if not tensor.dim():
            return str(writer.literal(tensor.item()))
        dtype = "" if tensor.dtype == torch.float32 else f", {lower.DTYPES[tensor.dtype]}"
        return f"jnp.array({tensor.tolist()!r}{dtype.replace('jnp.int64', 'int')})"

    def run(self, root: Call) -> None:
        """Write every body; again, where calls of one module do different things."""
        self.write(root)
        calls: dict[int, list[Body]] = {}
        for call in _calls(root):
            if call.index in self.bodies:
                calls.setdefault(id(call.module), []).append(self.bodies[call.index])
        for key, bodies in calls.items():
            if (name := telling(bodies)) is not None:
                self.told[key] = name
        if self.told:
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
        torch_module: any module whose forward ``torch.export`` can trace.
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
    make = _maker(result)
    model = _abstract(make, result)
    convert.to_flax(torch_module, model)
    _fill_rest(make, model)
    _fill_constants(torch_module, model)
    model.train() if torch_module.training else model.eval()
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
    kwargs = {**kwargs, **options.kwargs}
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    evaluation = capture(torch_module, args, kwargs, training=False)
    notes: list[str] = []
    try:
        training = capture(torch_module, args, kwargs, training=True)
    except CaptureError as error:
        training = None
        notes.append(f"training mode could not be traced: {error}")
    seconds["capture"] = time.perf_counter() - start
    start = time.perf_counter()
    leaf_of, declined = _leaf_of(torch_module)
    graph = normalise(evaluation, torch_module, leaf_of)
    other = normalise(training, torch_module, leaf_of) if training is not None else None
    for each in (graph, other):
        if each is not None:
            lift(each.root)
            prune(each.root)
            _missing(each.root, torch_module)
            simplify_writes(each.root)
    if other is not None:
        pair_modes(graph.root, other.root)
    programs = []
    for each in (graph, other):
        if each is None:
            continue
        fuse_subscripts(each.root)
        attach_sizes(each.root)
        prune(each.root)
        choose_results(each.root)
        elementwise = frozenset(lower.ELEMENTWISE)
        layout.assign(each, elementwise, torch=options.layout == "torch")
        prune(each.root)
        mark_chains(each.root)
        program = _Program(torch_module, declined)
        program.run(each.root)
        programs.append((each, program))
    result = _assemble(torch_module, programs, notes, declined)
    seconds["write"] = time.perf_counter() - start
    result.seconds.update(seconds)
    return result


def _assemble(
    root: torch.nn.Module,
    programs: list[tuple[Any, _Program]],
    notes: list[str],
    declined: set[str],
) -> Port:
    graph, program = programs[0]
    calls = list(_calls(graph.root))
    layers = {c.path: c.leaf for c in calls if c.leaf is not None and isinstance(c.leaf, Leaf)}
    if len(programs) > 1:
        for call in _calls(programs[1][0].root):
            if call.leaf is not None:
                layers.setdefault(call.path, call.leaf)
    code = {id(c.module) for c in calls if c.leaf is None and not c.chain}
    called = {id(c.module) for c in calls}
    specs = Specs(root, layers, code, called, declined, graph.states)
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
                _join_modes(body, twin[min(len(instances[0].bodies), len(twin) - 1)])
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
    _raise(obstacles, root)
    groups = group_instances(specs.instances)
    codes: list[ClassCode] = []
    for group in _bottom_up(groups, main):
        codes.append(made := ClassCode(group, is_root=main in group.instances))
        try:
            made.run()
        except Unported as error:
            obstacles.append(Obstacle(group.instances[0].path, str(error), group.cls.__qualname__))
    _raise(obstacles, root)
    if specs.aliases:
        _tie(codes[-1], specs, root, {path for code in codes for path in code.resolved})
    origin = f"{type(root).__name__}, ported from torch by fluxmod."
    text = module_text(codes, origin)
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
    signature = inspect.signature(type(root.module).forward)
    bound = signature.bind(root.module, *root.args, **root.kwargs).arguments
    trees = {k: v for k, v in bound.items() if k not in ("self", "kwargs")}
    trees |= bound.get("kwargs", {})
    rows = []
    for name, tree in trees.items():
        for value in tree_values(tree):
            order, channel = value.layout, value.order and value.order[-1]
            if root.leaf is not None:
                entry = root.leaf.axes().of_input(0)
                if entry is not None and entry.applies_to(value.rank):
                    channel = entry.axis % value.rank
                    order = (*(a for a in order if a != channel), channel)
            shape = tuple(
                ("N" if a == 0 else value.symbols[a]) if value.symbols[a] else value.shape[a]
                for a in order
            )
            rows.append((name, shape, str(value.dtype).removeprefix("torch."), channel))
    return tuple(rows)


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
    for places in owners.values():
        if len(places) < 2:
            continue
        stored = {p: paths.stored_as(root, p)[1] for p in places}
        if len(set(stored.values())) > 1:
            declined |= {p.rpartition(".")[0] for p, perm in stored.items() if perm is not None}
    modules = {id(root.get_submodule(path)) for path in declined}
    return (lambda m: None if id(m) in modules else leaf_match(m)), declined


def _bodies_by_module(program: tuple[Any, _Program]) -> dict[int, list[Body]]:
    found: dict[int, list[Body]] = {}
    for call in _calls(program[0].root):
        if call.leaf is None and not call.chain:
            found.setdefault(id(call.module), []).append(program[1].bodies[call.index])
    return found


def _join_modes(body: Body, train: Body) -> None:
    """One body for both modes; where they differ, the mode decides."""
    body.rngs = body.rngs or train.rngs
    if body.lines == train.lines:
        return
    offset = len(body.literals)
    lines = list(train.lines)
    for index in reversed(range(len(train.literals))):
        lines = [x.replace(f"_number_{index}_", f"_number_t{index}_") for x in lines]
    numbers = {f"_number_t{i}_": n for i, (_, n) in enumerate(train.literals)}
    own = dict(body.literals)
    common = 0
    for a, b in zip(body.lines, lines, strict=False):
        if _spelled(a, own) != _spelled(b, numbers):
            break
        common += 1
    if common == len(body.lines) == len(lines):
        return
    for index in range(len(train.literals)):
        lines = [x.replace(f"_number_t{index}_", f"_number_{offset + index}_") for x in lines]
    body.literals += [(f"_number_{offset + i}_", n) for i, (_, n) in enumerate(train.literals)]
    body.attrs.update(train.attrs)
    body.obstacles += train.obstacles
    head, rest = body.lines[:common], body.lines[common:]
    other = lines[common:]
    numbers = dict(body.literals)
    tail: list[str] = []
    while rest and other and _spelled(rest[-1], numbers) == _spelled(other[-1], numbers):
        tail.insert(0, rest.pop())
        other.pop()
    if tail:
        body.lines = [*head, *_branches(rest, other), *tail]
    elif len(rest) <= len(other):
        body.lines = [*head, "if not self.training:", *(f"    {x}" for x in rest), *other]
    else:
        body.lines = [*head, "if self.training:", *(f"    {x}" for x in other), *rest]


def _branches(evaluation: list[str], training: list[str]) -> list[str]:
    """What only one mode does, under the mode."""
    lines = []
    if training:
        lines += ["if self.training:", *(f"    {x}" for x in training)]
    if evaluation:
        lines += ["else:" if training else "if not self.training:"]
        lines += [f"    {x}" for x in evaluation]
    return lines


def _spelled(line: str, numbers: dict[str, Any]) -> str:
    for mark, number in numbers.items():
        line = line.replace(mark, repr(number))
    return line


def _bottom_up(groups: list[Any], main: Instance) -> list[Any]:
    """Classes in the order in which they can be defined: children first."""
    done: list[Any] = []

    def visit(spec: Any) -> None:
        if isinstance(spec, Instance):
            for other in [spec, *spec.group.instances]:
                for child in other.attributes.values():
                    visit(child)
            if spec.group not in done:
                done.append(spec.group)
        elif hasattr(spec, "children") and isinstance(spec.children, dict):
            for child in spec.children.values():
                visit(child)

    visit(main)
    done += [g for g in groups if g not in done]
    return done


def _calls(call: Call) -> Iterator[Call]:
    yield call
    for item in call.items:
        if isinstance(item, Call):
            yield from _calls(item)


def _missing(root: Call, module: torch.nn.Module) -> None:
    """Report every operator without a rule at once."""
    found: list[Obstacle] = []
    for call in _calls(root):
        for item in call.items:
            if isinstance(item, Call):
                continue
            if lower.rule_of(item.target) is None:
                found.append(Obstacle(call.path, f"no lowering for {item.target}", item.where))
    _raise(found, module)


def _raise(obstacles: list[Obstacle], module: torch.nn.Module) -> None:
    if not obstacles:
        return
    seen: dict[tuple[str, str], list[str]] = {}
    for o in obstacles:
        seen.setdefault((o.what, o.where), []).append(o.path or "the model itself")
    lines = [
        f"  {what}\n    in {', '.join(dict.fromkeys(where_in))[:200]}\n    at {where}"
        for (what, where), where_in in seen.items()
    ]
    raise UnsupportedOpError(
        f"port: {type(module).__name__} has {len(seen)} obstacle(s):\n" + "\n".join(lines)
    )


def _maker(result: Port) -> Callable[[], nnx.Module]:
    """Run the text; tracebacks show it. Returns what constructs the model."""
    filename = f"<fluxmod.port {result.name}>"
    module = types.ModuleType(f"fluxmod_port_{result.name}")
    lines = result.text.splitlines(keepends=True)
    linecache.cache[filename] = (len(result.text), None, lines, filename)
    try:
        exec(compile(result.text, filename, "exec"), module.__dict__)
    except Exception as error:
        raise _our_fault(result, error) from error
    sys.modules[module.__name__] = module
    found = getattr(module, result.name)
    build = found.__init__ if inspect.isclass(found) else found
    takes = "rngs" in inspect.signature(build).parameters
    return lambda: found(rngs=nnx.Rngs(0)) if takes else found()


def _abstract(make: Callable[[], nnx.Module], result: Port) -> nnx.Module:
    """The model without values: weights that will be replaced are not drawn first."""
    try:
        return nnx.eval_shape(make)
    except Exception as error:
        raise _our_fault(result, error) from error


def _fill_rest(make: Callable[[], nnx.Module], model: nnx.Module) -> None:
    """Compute what no checkpoint has: random streams and constants."""
    leaves, treedef = jax.tree.flatten(nnx.state(model, graph=True))
    missing = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
    if not missing:
        return

    def rest() -> list[Any]:
        values = jax.tree.leaves(nnx.state(make(), graph=True))
        return [values[i] for i in missing]

    for index, value in zip(missing, jax.jit(rest)(), strict=True):
        leaves[index] = value
    nnx.update(model, jax.tree.unflatten(treedef, leaves))


def _fill_constants(root: torch.nn.Module, model: nnx.Module) -> None:
    """Take over what torch computed in its constructors and no checkpoint has."""
    for path, module in root.named_modules():
        table = {n: module._buffers[n] for n in module._non_persistent_buffers_set}
        table |= {n: t for n, t in vars(module).items() if isinstance(t, torch.Tensor)}
        owner: Any = _below(model, path) if table else None
        for name, tensor in table.items():
            ours = getattr(owner, name, None)
            same = isinstance(ours, nn.Buffer) and tensor is not None and not tensor.is_meta
            if same and ours.shape == tuple(tensor.shape) and tensor.is_floating_point():
                ours.set_value(jnp.asarray(tensor.detach().cpu().numpy(), ours.dtype))


def _below(model: Any, path: str) -> Any:
    """The module at torch's path, None where Flax has none."""
    for name in path.split(".") if path else []:
        try:
            model = getattr(model, name, None) if not name.isdigit() else model[int(name)]
        except (KeyError, IndexError, TypeError):
            return None
    return model


def _our_fault(result: Port, error: Exception) -> PortError:
    return PortError(
        f"port: the source of {result.name} cannot be built: {type(error).__name__}: {error}. "
        "This is a fault of the porter; please report it with the model.\n" + result.text
    )


def source(model: nnx.Module) -> str:
    """The text that a ported model runs.

    Raises:
        PortError: the model was not made by ``port``.
    """
    return of(model).text


def of(model: nnx.Module) -> Port:
    """What ``port`` knows about a model."""
    found = getattr(type(model), "_fluxmod_port", None) or _PORTS.get(model)
    if found is None:
        raise PortError(f"porter: {type(model).__name__} was not made by fluxmod.port.")
    return found

"""What transformers' Jinja2 makes of templates, for test/data/jinja/peers.slow.test.ts: one JSON line each.

python scripts/dev/checks/jinja-check.py trl [FILES ...]      TRL's chat templates, and others, with conversations
python scripts/dev/checks/jinja-check.py fuzz COUNT SEED      random templates with the variables of the fixtures

A line: [template, variables or null (the fixtures'), text or null where it raises, stretches of {% generation %}]
"""

import copy
import json
import random
import re
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

# The fixtures' generator is not called jinja where it is imported, for transformers imports modules of that name.
FIXTURES: dict = {"__file__": str(Path(__file__).parents[1] / "fixtures" / "jinja.py"), "__name__": "fixtures"}
exec((Path(__file__).parents[1] / "fixtures" / "jinja.py").read_text(), FIXTURES)


def call(arguments):
    function = {"name": "get_weather", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": function}]}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get <the> weather 'now' & é",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "City"},
                    "unit": {"type": "string", "enum": ["c", "f"], "default": None},
                    "n": {"type": "array", "items": {"type": "number"}},
                },
                "required": ["city"],
            },
            "return": {"type": "string"},
        },
    }
]
CONVERSATIONS = [
    [{"role": "user", "content": "Hi é 😀"}, {"role": "assistant", "content": " Hello\n there "}],
    [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "  2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nno"},
    ],
    [
        {"role": "user", "content": "weather?"},
        call({"city": "Paris", "n": [1, 2.5, 1.0], "x": None, "y": True, "z": {"20": 1, "3": 1e5}}),
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": '{"t": 20}'},
        {"role": "assistant", "content": "20 degrees"},
    ],
    [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
    ],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "because\n"}, {"role": "user", "content": "c"}],
    [{"role": "assistant", "content": "first"}],
    [],
]


def line(template, variables):
    given = copy.deepcopy(FIXTURES["DATA"] if variables is None else variables)
    try:
        compiled = _compile_jinja_template(template)
        named = {name: given.pop(name, None) for name in ("messages", "tools", "documents", "add_generation_prompt")}
        if variables is None:
            text, spans = compiled.render(**given, messages=named["messages"]), []
        else:
            text, spans = _render_with_assistant_indices(compiled, **named, **given)
    except Exception:
        text, spans = None, []
    if text is None or not re.search(r"0x[0-9a-f]{6,}|<(class|function|built-in|bound|method)|Markup\(", text, re.IGNORECASE):
        print(json.dumps([template, variables, text, spans]))


def trl(files):
    import trl as package

    folder = Path(package.__file__).parent / "chat_templates"
    for path in [*sorted(folder.glob("*.jinja")), *map(Path, files)]:
        template = path.read_bytes().decode()
        for i, messages in enumerate(CONVERSATIONS):
            for tools in (None, TOOLS):
                variables = dict(messages=messages, tools=tools, documents=None, add_generation_prompt=i % 2 == 0)
                variables |= dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>")
                if i % 3 == 1:
                    variables["enable_thinking"] = False
                line(template, variables)


def fuzz(count, seed):
    rng = random.Random(seed)
    pick = rng.choice
    names = [*FIXTURES["NAMES"], "messages", "people", "csv", "digits", "x", "ns.a", "loop.index", "loop"]
    literals = ["1", "0", "2", "-1", "1.5", "2.0", "'a'", "'b,c'", "''", "' x '", "none", "true", "false", "[]", "{}", "[1, 'a']", "(1, 2)", "{'a': 1}", "'é😀'", "10000000000000000000"]
    hashable = [literal for literal in literals if literal[0] not in "[{"]
    # Powers and products of large numbers take long in Python.
    operators = [operator for operator in FIXTURES["OPERATORS"] if operator not in ("**", "*")]

    def expression(depth):
        kind = rng.random()
        if depth <= 0 or kind < 0.15:
            return pick(names) if rng.random() < 0.6 else pick(literals)
        inner = expression(depth - 1)
        if kind < 0.35:
            return f"{inner} | {pick(FIXTURES['FILTERS'])}"
        if kind < 0.45:
            return f"({inner}).{pick(FIXTURES['METHODS'])}"
        if kind < 0.55:
            # Jinja2 folds slices of constants by rules of their own.
            return f"{pick(names)}{pick(FIXTURES['SLICES'])}"
        if kind < 0.62:
            return f"({inner} is {pick(['', 'not '])}{pick(FIXTURES['TESTS'])})"
        if kind < 0.68:
            return f"({inner} if {expression(depth - 1)} else {expression(depth - 1)})"
        if kind < 0.72:
            return f"[{inner}, {expression(depth - 1)}]"
        if kind < 0.75:
            return f"{{{pick(hashable)}: {inner}, 'k': {expression(depth - 1)}}}"
        if kind < 0.78:
            return f"not {inner}"
        if kind < 0.80:
            return f"-{inner}"
        if kind < 0.82:
            return f"f({inner}, b={expression(depth - 1)})"
        return f"({inner} {pick(operators)} {expression(depth - 1)})"

    def space():
        return pick(["", "", "", " ", "\n", "\n  ", "text", "\t\n"])

    def tag(body):
        return f"{{%{pick(['', '', '', '-', '+'])} {body} {pick(['', '', '', '-', '+'])}%}}"

    def block(depth):
        kind = rng.random()
        if depth <= 0 or kind < 0.4:
            return f"{{{{{pick(['', '', '-'])} {expression(2)} {pick(['', '', '-'])}}}}}"
        inside = space() + body(depth - 1) + space()
        if kind < 0.55:
            return tag(f"if {expression(2)}") + inside + (tag("else") + body(depth - 1) if rng.random() < 0.4 else "") + tag("endif")
        if kind < 0.7:
            over = pick(["list", "words", "dict", "messages", "people", "low", "mixed", "list | map('string')", expression(1)])
            test = f" if {expression(1)}" if rng.random() < 0.3 else ""
            jump = tag(f"if {expression(1)}") + tag(pick(["break", "continue"])) + tag("endif") if rng.random() < 0.3 else ""
            return tag(f"for x in {over}{test}") + inside + jump + (tag("else") + body(depth - 1) if rng.random() < 0.3 else "") + tag("endfor")
        if kind < 0.8:
            return tag(f"set {pick(['x', 'y', 'n', 'ns.a', 'x, y'])} = {expression(2)}")
        if kind < 0.84:
            return tag(f"set {pick(['x', 'y'])}{pick(['', ' | upper', ' | trim'])}") + inside + tag("endset")
        if kind < 0.88:
            return tag(f"filter {pick(['upper', 'trim', 'indent(2)', 'length'])}") + inside + tag("endfilter")
        if kind < 0.92:
            return tag(f"with x = {expression(1)}, y = x") + inside + tag("endwith")
        if kind < 0.96:
            return tag(f"macro f(a, b={expression(1)})") + inside + "{{ a }}{{ b }}" + tag("endmacro") + "{{ f(1) }}"
        return pick(["{# c #}", "{#- c -#}", "{% raw %}{{ x }}{% endraw %}", "{%- raw -%} a {%- endraw -%}", tag("generation") + inside + tag("endgeneration")])

    def body(depth):
        return "".join(space() + block(depth) for _ in range(rng.randrange(1, 3)))

    for _ in range(count):
        line(tag("set ns = namespace(a=1)") + body(3) + space(), None)


if __name__ == "__main__":
    if sys.argv[1] == "trl":
        trl(sys.argv[2:])
    else:
        fuzz(int(sys.argv[2]), int(sys.argv[3]))

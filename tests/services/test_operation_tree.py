"""The operations field: what is accepted, and where each mistake is said to be."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidOperations
from app.operations import OPERATIONS, Operation
from app.parameters import WebpParams
from app.services.dag_builder import Node
from app.services.intake.operation_tree import MAX_REPORTED, TreeLimits, parse_tree

LIMITS = TreeLimits(nodes=8, depth=4, bytes=4000)
RESIZE = {"op": "resize", "width": 5}


def parsed(tree: Any) -> tuple[Node, ...]:
    return parse_tree(json.dumps(tree), LIMITS)[1]


def refused(tree: Any, limits: TreeLimits = LIMITS) -> InvalidOperations:
    """The refusal of a tree, or of a text that is none."""
    text = tree if isinstance(tree, str | bytes) else json.dumps(tree)
    with pytest.raises(InvalidOperations) as error:
        parse_tree(text, limits)
    return error.value


def mistakes(error: InvalidOperations) -> list[tuple[str, str]]:
    return [(mistake["code"], mistake["pointer"]) for mistake in error.extra["errors"]]


# -- what is accepted --------------------------------------------------------------------------------------------------


def test_a_name_alone_is_an_operation_with_default_parameters() -> None:
    (short,), (long,) = parsed(["convert_webp"]), parsed([{"op": "convert_webp"}])
    assert short == long
    assert short.params.model_dump() == WebpParams().model_dump()


def test_nodes_know_their_path_and_their_pointer() -> None:
    branches = parsed(["convert_png", {**RESIZE, "then": ["convert_webp", {**RESIZE, "then": ["convert_jpeg"]}]}])
    assert [(node.id, node.operation.name, node.pointer) for branch in branches for node in branch.walk()] == [
        ("0", "convert_png", "#/operations/0"),
        ("1", "resize", "#/operations/1"),
        ("1.0", "convert_webp", "#/operations/1/then/0"),
        ("1.1", "resize", "#/operations/1/then/1"),
        ("1.1.0", "convert_jpeg", "#/operations/1/then/1/then/0"),
    ]


def test_the_array_comes_back_as_it_was_sent() -> None:
    tree = [{"then": ["convert_png"], "op": "resize", "width": 5, "keep": False}]
    assert parse_tree(json.dumps(tree), LIMITS)[0] == tree


def test_bytes_are_as_good_as_text() -> None:
    assert parse_tree(b'["convert_png"]', LIMITS) == parse_tree('["convert_png"]', LIMITS)


def test_an_empty_then_is_a_leaf() -> None:
    (node,) = parsed([{**RESIZE, "then": []}])
    assert node.then == ()


def test_keep_and_as_are_kept() -> None:
    (node,) = parsed([{**RESIZE, "keep": True, "as": "small", "then": ["convert_png"]}])
    assert (node.keep, node.name) == (True, "small")


@pytest.mark.parametrize("name", ["a", "A1", "a-b_c", "a.b.c", "1", "x" * 64])
def test_usable_result_names(name: str) -> None:
    assert parsed([{**RESIZE, "as": name}])[0].name == name


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_example_of_every_operation_is_valid(operation: Operation) -> None:
    (node,) = parsed([{"op": operation.name, **operation.example}])
    assert node.operation is operation


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_themselves_are_allowed() -> None:
    assert len(parsed(["convert_png"] * LIMITS.nodes)) == LIMITS.nodes
    text = '["convert_png"]'
    parse_tree(text, TreeLimits(nodes=1, depth=1, bytes=len(text)))
    nested: list[Any] = ["convert_png"]
    for _ in range(LIMITS.depth - 1):
        nested = [{**RESIZE, "then": nested}]
    parsed(nested)


def limit_of(error: InvalidOperations) -> tuple[str | None, str, Any, Any]:
    (mistake,) = error.extra["errors"]
    return error.code, mistake["pointer"], mistake["limit"], mistake["value"]


def test_too_many_operations_side_by_side() -> None:
    assert limit_of(refused(["convert_png"] * 9)) == ("too_many_operations", "#/operations", 8, 9)


def test_too_many_operations_over_the_whole_tree() -> None:
    tree = [{**RESIZE, "then": ["convert_png"] * 4}, {**RESIZE, "then": ["convert_webp"] * 4}]
    assert limit_of(refused(tree)) == ("too_many_operations", "#/operations/1/then", 8, 10)


def test_a_tree_that_is_too_deep() -> None:
    tree: list[Any] = ["convert_png"]
    for _ in range(LIMITS.depth):
        tree = [{**RESIZE, "then": tree}]
    pointer = "#/operations" + "/0/then" * 4
    assert limit_of(refused(tree)) == ("tree_too_deep", pointer, 4, 5)


def test_json_that_is_absurdly_deep() -> None:
    limits = TreeLimits(nodes=8, depth=4, bytes=1_000_000)
    assert limit_of(refused("[" * 100_000, limits)) == ("tree_too_deep", "#/operations", 4, None)


@pytest.mark.parametrize("text", ['["convert_png", "ää"]', '["convert_png", "ää"]'.encode()])
def test_the_length_is_counted_in_bytes(text: str | bytes) -> None:
    limits = TreeLimits(nodes=8, depth=4, bytes=22)
    assert limit_of(refused(text, limits)) == ("operations_too_long", "#/operations", 22, 23)


# -- mistakes ----------------------------------------------------------------------------------------------------------


NOT_JSON: dict[str, str | bytes] = {
    "nothing": "",
    "blank": " ",
    "unfinished": "[",
    "single quotes": "['convert_png']",
    "bare word": "[convert_png]",
    "trailing comma": "[1,]",
    "more behind": '["a"] x',
    "not a number": "[NaN]",
    "infinity": '[{"op": "resize", "width": Infinity}]',
    "not UTF-8": b"\xff",
    "a key twice": '[{"op": "resize", "width": 1, "width": 2}]',
    "absurd number": "[" + "9" * 5000 + "]",
}


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json(text: str | bytes) -> None:
    limits = TreeLimits(nodes=8, depth=4, bytes=10_000)
    assert mistakes(refused(text, limits)) == [("invalid_json", "#/operations")]


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff["convert_webp"]',
        b'\xef\xbb\xbf["convert_webp"]',
        '["convert_webp"]\n',
        '\r\n\t [\r\n  "convert_webp"\r\n]\r\n',
        '\ufeff\n["convert_webp"]',
    ],
)
def test_what_editors_put_around_json_is_no_mistake(text: str | bytes) -> None:
    raw, branches = parse_tree(text, TreeLimits(nodes=8, depth=4, bytes=10_000))
    assert raw == ["convert_webp"]
    assert [branch.operation.name for branch in branches] == ["convert_webp"]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("convert_webp", 'Write ["convert_webp"].'),
        ("convert_webp, convert_avif\n", 'Write ["convert_webp", "convert_avif"].'),
        ("['convert_webp']", 'Write ["convert_webp"].'),
        ("[convert_webp]", 'Write ["convert_webp"].'),
        ('"convert_webp"', 'Write ["convert_webp"].'),
        ('{"op": "convert_webp"}', "Put the operation between [ and ]."),
    ],
)
def test_the_right_form_is_shown_for_what_was_meant(text: str, form: str) -> None:
    assert refused(text, TreeLimits(nodes=8, depth=4, bytes=10_000)).message.endswith(form)


@pytest.mark.parametrize("text", ["", "{", "hello", "[1, 2", "x" * 5000, "null", "3"])
def test_no_form_is_shown_for_what_names_no_operation(text: str) -> None:
    message = refused(text, TreeLimits(nodes=8, depth=4, bytes=10_000)).message
    assert "Write" not in message
    assert "Put" not in message


def test_the_place_of_a_syntax_error_is_told() -> None:
    assert "line 2, column 3." in refused('["convert_png",\n  oops]').message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('["convert_png"]\u200b', "line 1, column 16 (U+200B)."),
        ("[“convert_png”]", "line 1, column 2 (U+201C)."),
        (b'["\xff"]', "it must be UTF-8."),
        ('["\\ud800"]', "half of a surrogate pair."),
        ("[NaN]", "NaN, Infinity"),
        ("[1e999]", "NaN, Infinity"),
        ("[" + "9" * 5000 + "]", "too large"),
    ],
)
def test_the_reason_is_told_where_no_place_shows_it(text: str | bytes, reason: str) -> None:
    assert reason in refused(text, TreeLimits(nodes=8, depth=4, bytes=10_000)).message


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ("resize", "resize: a width, a height or both are needed."),
        ({"op": "resize", "width": 0}, "resize: width must be greater than or equal to 1."),
        ({**RESIZE, "enlarge": 1}, "resize: enlarge must be a valid boolean."),
        ({**RESIZE, "focal_point": [0.5, 2]}, "resize: focal_point[1] must be less than or equal to 1."),
        ({**RESIZE, "focal_point": [0.5]}, "resize: focal_point must have at least 2 items, not 1."),
        ({"op": "watermark", "text": "x" * 201}, "watermark: text must have at most 200 characters."),
        ({"op": "crop", "width": 5}, "crop: height is missing."),
        ({"op": "watermark", "text": "a\nb"}, "watermark: the text must be one line of visible characters."),
    ],
)
def test_the_sentence_names_the_operation_and_the_parameter(entry: Any, detail: str) -> None:
    assert [mistake["detail"] for mistake in refused([entry]).extra["errors"]] == [detail]


@pytest.mark.parametrize("tree", [{}, {"op": "convert_png"}, "7", "null", '"convert_png"', []])
def test_the_operations_are_an_array_that_is_not_empty(tree: Any) -> None:
    assert mistakes(refused(tree)) == [("invalid_operations", "#/operations")]


@pytest.mark.parametrize("entry", [7, None, True, [], ["convert_png"]])
def test_an_operation_is_a_name_or_an_object(entry: Any) -> None:
    assert mistakes(refused(["convert_png", entry])) == [("invalid_operations", "#/operations/1")]


@pytest.mark.parametrize(
    ("entry", "code", "pointer"),
    [
        ({}, "invalid_operations", ""),
        ({"op": None}, "invalid_operations", "/op"),
        ({"op": ["resize"]}, "invalid_operations", "/op"),
        ("explode", "unknown_operation", "/op"),
        ({"op": "explode", "power": 11}, "unknown_operation", "/op"),
        ({"op": "Resize"}, "unknown_operation", "/op"),
        ("resize", "invalid_parameter", ""),
        ({"op": "resize", "width": 0}, "invalid_parameter", "/width"),
        ({"op": "resize", "width": 16385}, "invalid_parameter", "/width"),
        ({"op": "resize", "width": "5"}, "invalid_parameter", "/width"),
        ({"op": "resize", "width": 5.0}, "invalid_parameter", "/width"),
        ({"op": "resize", "width": True}, "invalid_parameter", "/width"),
        ({"op": "resize", "width": 5, "fit": "stretch"}, "invalid_parameter", "/fit"),
        ({"op": "resize", "width": 5, "enlarge": 1}, "invalid_parameter", "/enlarge"),
        ({"op": "resize", "width": 5, "widht": 5}, "invalid_parameter", "/widht"),
        ({"op": "resize", "width": 5, "a/b~c": 5}, "invalid_parameter", "/a~1b~0c"),
        ({"op": "convert_jpeg", "background": "white"}, "invalid_parameter", "/background"),
        ({**RESIZE, "keep": 1}, "invalid_operations", "/keep"),
        ({**RESIZE, "keep": None}, "invalid_operations", "/keep"),
        ({**RESIZE, "then": "convert_png"}, "invalid_operations", "/then"),
        ({**RESIZE, "then": None}, "invalid_operations", "/then"),
        ({**RESIZE, "then": [7]}, "invalid_operations", "/then/0"),
        ({**RESIZE, "then": ["explode"]}, "unknown_operation", "/then/0/op"),
        ({**RESIZE, "as": ""}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": None}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "a b"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "../x"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "a..b"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": ".a"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "a\n"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "ä"}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "x" * 65}, "invalid_result_name", "/as"),
        ({**RESIZE, "as": "x", "then": ["convert_png"]}, "invalid_result_name", "/as"),
    ],
)
def test_a_mistake_has_its_code_and_its_place(entry: Any, code: str, pointer: str) -> None:
    error = refused(["convert_png", entry])
    assert mistakes(error) == [(code, f"#/operations/1{pointer}")]
    assert error.code == code
    assert error.message.endswith(".")


def test_a_number_out_of_bounds_is_told_with_its_bound() -> None:
    tree = [
        {"op": "resize", "width": 20000, "height": 0, "focal_point": [0.5, 2]},
        {"op": "convert_webp", "quality": 101, "effort": -1},
    ]
    found = [(mistake["limit"], mistake["value"]) for mistake in refused(tree).extra["errors"]]
    assert found == [(16384, 20000), (1, 0), (1, 2), (100, 101), (0, -1)]


def test_large_values_are_not_repeated_in_full() -> None:
    for entry in ({"op": "x" * 500}, {"op": "resize", "width": ["x" * 500]}, {**RESIZE, "as": "x" * 500}):
        (mistake,) = refused([entry]).extra["errors"]
        assert len(mistake["value"]) == 64
    (mistake,) = refused([{**RESIZE, "x" * 500: 1}]).extra["errors"]
    assert len(mistake["pointer"]) < 100


def test_every_mistake_is_reported_and_the_first_one_gives_the_code() -> None:
    tree = [{"op": "resize", "width": 0, "keep": 1, "then": ["explode"]}, 7, {**RESIZE, "as": "!"}]
    error = refused(tree)
    assert error.code == "invalid_parameter"
    assert sorted(mistakes(error)) == [
        ("invalid_operations", "#/operations/0/keep"),
        ("invalid_operations", "#/operations/1"),
        ("invalid_parameter", "#/operations/0/width"),
        ("invalid_result_name", "#/operations/2/as"),
        ("unknown_operation", "#/operations/0/then/0/op"),
    ]


def test_there_is_an_end_to_reporting() -> None:
    tree = [{"op": "resize", **{f"unknown{n}": n for n in range(50)}}]
    assert len(refused(tree).extra["errors"]) == MAX_REPORTED


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("convert_wepb", "There is no operation 'convert_wepb' (did you mean 'convert_webp'?); there are blur, "),
        ({"op": "Resize"}, "There is no operation 'Resize' (did you mean 'resize'?); there are "),
        ("explode", "There is no operation 'explode'; there are "),
        (
            {"op": "resize", "widht": 5},
            "resize: there is no parameter 'widht' (did you mean 'width'?); there are width, ",
        ),
        (
            {"op": "resize", "params": {"width": 5}},
            "resize: there is no parameter 'params'; write its members next to `op`.",
        ),
        ({"op": "grayscale", "amount": 1}, "grayscale: there is no parameter 'amount'; it has none."),
    ],
)
def test_what_was_meant_is_guessed(node: Any, said: str) -> None:
    assert refused([node]).extra["errors"][0]["detail"].startswith(said)


def test_result_names_that_differ_in_case_only_are_the_same() -> None:
    tree = [{**RESIZE, "as": "Hero"}, {**RESIZE, "then": [{"op": "convert_png", "as": "hero"}]}]
    error = refused(tree)
    assert mistakes(error) == [("duplicate_result_name", "#/operations/1/then/0/as")]
    assert "#/operations/0" in error.message


# -- anything at all ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[])),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)
PARAMETERS = sorted({name for operation in OPERATIONS.values() for name in operation.params.model_fields})
KEYS = st.sampled_from(["op", "then", "keep", "as", *PARAMETERS])
NAMES = st.sampled_from([*OPERATIONS, "explode"])
ENTRIES = st.recursive(
    NAMES | st.dictionaries(KEYS, JSON, max_size=5),
    lambda children: st.builds(
        lambda op, then, more: {**more, "op": op, "then": then},
        NAMES,
        st.lists(children, max_size=3),
        st.dictionaries(KEYS | st.text(), JSON, max_size=3),
    ),
    max_leaves=8,
)


def outcome(text: str | bytes, limits: TreeLimits) -> Any:
    """The checked branches, or the refusal."""
    try:
        return parse_tree(text, limits)[1]
    except InvalidOperations as error:
        return error


@pytest.mark.slow
@given(JSON | st.lists(ENTRIES | JSON, max_size=5), st.booleans())
def test_any_json_is_a_tree_or_refused_with_an_answer_that_can_be_sent(value: Any, escape: bool) -> None:
    text = json.dumps(value, ensure_ascii=escape).replace("Infinity", "1e999").encode(errors="replace")
    result = outcome(text, TreeLimits(nodes=30, depth=6, bytes=1_000_000))
    if not isinstance(result, InvalidOperations):
        assert len(result) == len(value)
        return
    assert result.code
    assert result.extra["errors"]
    for mistake in result.extra["errors"]:
        assert mistake["pointer"].startswith("#/operations")
        assert mistake["detail"]
    can_be_sent(result)


@given(st.text() | st.binary())
def test_any_text_is_a_tree_or_refused(text: str | bytes) -> None:
    assert outcome(text, LIMITS)


def can_be_sent(error: InvalidOperations) -> None:
    json.dumps([error.message, error.extra], allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("value", ["1e999", "-1e999", r'"\ud800"', r'["\ud800"]', r'{"\ud800": 1e999}'])
@pytest.mark.parametrize("member", ['"width"', '"fit"', '"op"', '"keep"', '"as"', '"then"', r'"\ud800"'])
def test_values_that_json_allows_and_answers_cannot_hold_are_still_refused_with_an_answer(
    member: str, value: str
) -> None:
    error = refused(f'[{{"op": "resize", "height": 5, {member}: {value}}}]')
    can_be_sent(error)


MANY = 8620
FIELDS = ",".join(f'"{number:x}":0' for number in range(MANY))


@pytest.mark.parametrize(
    "text",
    [
        f'[{{{FIELDS},"{MANY - 1:x}":0}}]',
        f'[{{"op":"resize",{FIELDS}}}]',
        f'[{{"op":"blur","then":{"[" * 20_000}',
        f"[{','.join(['1'] * 30_000)}]",
    ],
    ids=["twice", "unknown", "deep", "long"],
)
def test_hostile_trees_are_refused_in_little_time(text: str) -> None:
    """They are read in the event loop, where everybody waits meanwhile."""
    limits = TreeLimits(nodes=32, depth=8, bytes=100_000)
    took = []
    for _ in range(5):  # other threads of this process may work meanwhile
        began = time.process_time()
        assert isinstance(outcome(text, limits), InvalidOperations)
        took.append(time.process_time() - began)
    assert min(took) < 0.1

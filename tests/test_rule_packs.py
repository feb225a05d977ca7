"""Rule packs: what is read, what is refused and where, and the packs that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import schemas
from watcher.config import check_rules, load_rules, parse_duration, parse_margin, parse_share, rule_pack_path
from watcher.config.strict_yaml import read
from watcher.errors import ConfigError
from watcher.model import Kind, Rule, Selector, Worse

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "rules").glob("*.yaml"))

SHOP = """\
pack: shop
by: [feature]                 # labels that make streams
unit: instance
rules:
  - name: request-errors
    title: Requests that failed
    kind: ratio
    bad: http_requests_total{code=~"5.."}
    total: http_requests_total
    signature: error_type
    margin: 50%
    critical: true
  - {name: checkout-completion, title: Checkouts completed, kind: rate, events: checkout_completed_total,
     per: checkout_started_total, matures: 25m, worse: lower, margin: 2%, critical: true}
  - {name: page-load, title: Page load time, kind: latency, histogram: page_load_seconds, objective: 2.5s, margin: 10%}
  - {name: lcp-p75, title: Largest contentful paint p75, kind: gauge, value: web_lcp_p75_seconds, across: median,
     worse: higher, margin: 10%, required: false}
"""


def rules(tmp_path: Path, text: str) -> tuple[Rule, ...]:
    path = tmp_path / "pack.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rules(path)


def rule(tmp_path: Path, body: str) -> Rule:
    """One rule named r, its keys in flow style, on line 3 of its pack."""
    [only] = rules(tmp_path, f"pack: p\nrules:\n  - {{name: r, {body}}}\n")
    return only


RATIO = "kind: ratio, bad: 'errors_total', total: requests_total"
GOOD = "kind: ratio, good: 'fine_total', total: requests_total"
RATE = "kind: rate, events: done_total, per: started_total"
LATENCY = "kind: latency, histogram: load_seconds, objective: 1s"
GAUGE = "kind: gauge, value: load, worse: higher"


def test_a_complete_pack_becomes_rules(tmp_path: Path) -> None:
    errors, completion, load, paint = rules(tmp_path, SHOP)
    assert errors == Rule(
        name="request-errors",
        kind=Kind.RATIO,
        events=Selector.parse('http_requests_total{code=~"5.."}'),
        total=Selector("http_requests_total"),
        title="Requests that failed",
        margin=0.5,
        critical=True,
        by=("feature",),
        unit="instance",
        signature="error_type",
    )
    assert (completion.kind, completion.worse, completion.margin, completion.matures) == ("rate", "lower", 0.02, 1500.0)
    assert completion.total == Selector("checkout_started_total")
    assert (load.events, load.total, load.objective) == (Selector("page_load_seconds"), None, 2.5)
    assert (paint.across, paint.required, paint.worse, paint.total) == ("median", False, Worse.HIGHER, None)


@pytest.mark.parametrize(
    ("body", "worse", "margin"),
    [
        (RATIO, Worse.HIGHER, 0.5),
        (GOOD, Worse.LOWER, 0.02),
        (RATE, Worse.LOWER, 0.02),
        (RATE + ", worse: higher", Worse.HIGHER, 0.5),
        (LATENCY, Worse.HIGHER, 0.1),
        (GAUGE, Worse.HIGHER, 0.1),
    ],
)
def test_direction_and_margin_have_defaults_by_kind(tmp_path: Path, body: str, worse: Worse, margin: float) -> None:
    found = rule(tmp_path, body)
    assert (found.worse, found.margin, found.absolute, found.regress_margin) == (worse, margin, False, 0.0)
    assert (found.required, found.critical, found.weight, found.across) == (True, False, 1.0, "median")


def test_percentage_points_are_absolute_fractions(tmp_path: Path) -> None:
    found = rule(tmp_path, RATIO + ", margin: 0.5pp")
    assert (found.margin, found.absolute) == (0.005, True)


def test_a_rule_overrides_the_labels_of_its_pack(tmp_path: Path) -> None:
    own, packs = rules(
        tmp_path,
        f"pack: p\nby: [feature]\nunit: pod\nrules:\n- {{name: a, {RATIO}, by: [route], unit: host}}\n"
        f"- {{name: b, {RATE}}}\n",
    )
    assert (own.by, own.unit, packs.by, packs.unit) == (("route",), "host", ("feature",), "pod")


def test_a_gauge_may_be_worse_either_way(tmp_path: Path) -> None:
    [only] = rules(tmp_path, "pack: p\nrules:\n- {name: a, kind: gauge, value: load, worse: either}\n")
    assert only.worse is Worse.EITHER


def test_an_empty_by_makes_one_stream_whatever_the_pack_says(tmp_path: Path) -> None:
    [only] = rules(tmp_path, f"pack: p\nby: [feature]\nrules:\n- {{name: a, {RATIO}, by: []}}\n")
    assert only.by == ()


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        (RATIO + ", margn: 5%", "margn", "did you mean `margin`"),
        (RATIO + ", good: fine_total", "good", "exactly one of `bad` and `good`"),
        ("kind: ratio, total: requests_total", "bad", "exactly one of `bad` and `good`"),
        ("kind: ratio, bad: errors_total", "total", "is missing"),
        ("kind: ratio, bad: requests_total, total: requests_total", "bad", "same as `total`"),
        (RATIO + ", worse: lower", "worse", "`good:`"),
        (RATIO + ", matures: 5m", "matures", "only to rate"),
        (GAUGE + ", matures: 5m", "matures", "does not belong to a gauge rule, only to rate"),
        (LATENCY + ", across: max", "across", "only to gauge"),
        (GAUGE + ", objective: 1s", "objective", "only to latency"),
        ("kind: rate, events: done_total", "per", "is missing"),
        ("kind: latency, histogram: load_seconds", "objective", "is missing"),
        ("kind: gauge, value: load", "worse", "is missing"),
        (RATE + ", worse: either", "worse", "either way is for gauges; a rate says higher or lower"),
        (RATE + ", worse: highr", "worse", "did you mean `higher`"),
        ("kind: ratoi, bad: errors_total", "kind", "did you mean `ratio`"),
        ("bad: errors_total", "kind", "is missing"),
        ("kind: ratio, ratio: errors/requests", "ratio", "unknown key"),
        ("kind: ratio, bad: 'rate(errors_total[5m])', total: t", "bad", "raw counters"),
        ("kind: ratio, bad: 'errors_total[5m]', total: t", "bad", "raw counters"),
        ("kind: ratio, bad: 'a / b', total: t", "bad", "raw counters"),
        ('kind: ratio, bad: \'a{x="1"} / b{x="1"}\', total: t', "bad", "raw counter"),
        ("kind: ratio, bad: 'a{code=~\"5(\"}', total: t", "bad", "not a regular expression"),
        ("kind: ratio, bad: 'a{code!~\"[\"}', total: t", "bad", "not a regular expression"),
        ("kind: ratio, bad: 5, total: t", "bad", "expected a selector"),
        ("kind: latency, histogram: load_seconds_bucket, objective: 1s", "histogram", "without _bucket: load_seconds"),
        ("kind: latency, histogram: 'load_seconds{le=\"1\"}', objective: 1s", "histogram", "leave `le` out"),
        ("kind: latency, histogram: load_seconds, objective: 0s", "objective", "greater than 0"),
        (RATIO + ", margin: 0%", "margin", "greater than 0"),
        (RATIO + ", margin: -5%", "margin", "must not be negative"),
        (RATIO + ", margin: 0.1", "margin", "expected a percentage such as 10%"),
        (RATIO + ", margin: 100pp", "margin", "below 100 %"),
        (GOOD + ", margin: 100%", "margin", "below 100 %"),
        (GAUGE + ", margin: 5pp", "margin", "must be relative"),
        (RATIO + ", regress_margin: 0.1pp", "regress_margin", "must be relative"),
        (RATIO + ", margin: 10%, regress_margin: 20%", "regress_margin", "must not exceed the margin"),
        (RATIO + ", weight: 0", "weight", "greater than 0"),
        (RATIO + ', weight: "2"', "weight", 'expected a number, found the text "2"'),
        (RATIO + ", critical: yes", "critical", 'expected true or false, found the text "yes"'),
        (RATIO + ", critical: 1", "critical", "expected true or false, found the number 1"),
        (RATIO + ", title: 1.10", "title", 'quote it: "1.10"'),
        (RATIO + ", title: ", "title", "is empty"),
        (RATIO + ", by: feature", "by", "expected a list"),
        (RATIO + ", by: [feature, feature]", "by", "given twice"),
        (RATIO + ", by: [le]", "by", "le is the bucket"),
        (RATIO + ", by: [pod], unit: pod", "by", "pod is the unit"),
        (RATIO + ", unit: a-b", "unit", "must match the pattern"),
        (RATE + ", matures: 25 minutes", "matures", "expected a duration such as"),
        (RATE + ", matures: -5", "matures", "expected a duration such as"),
        (RATE + ", matures: true", "matures", "expected a duration such as"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_key(tmp_path: Path, body: str, key: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule(tmp_path, body)
    assert said in caught.value.problem
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "pack.yaml"), 3)
    assert caught.value.key == f"rules.0.{key}"


def test_the_line_is_that_of_the_value_in_a_long_pack(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, SHOP.replace("margin: 50%", "margin: 500"))
    assert (caught.value.line, caught.value.key) == (11, "rules.0.margin")
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, SHOP.replace("worse: higher", "wrse: higher"))
    assert (caught.value.line, caught.value.key) == (17, "rules.3.wrse")


def test_the_first_of_several_problems_is_the_one_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(
            tmp_path,
            SHOP.replace("objective: 2.5s", "objective: fast").replace("critical: true\n", "critical: on\n", 1),
        )
    assert (caught.value.line, caught.value.key) == (12, "rules.0.critical")


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="page-load is the name of an earlier rule") as caught:
        rules(tmp_path, SHOP.replace("name: lcp-p75", "name: page-load"))
    assert (caught.value.line, caught.value.key) == (16, "rules.3.name")


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("rules: []\n", 1, "pack", "is missing"),
        ("pack: p\nrules: []\n", 2, "rules", "at least one entry"),
        ("pack: p\nrules: many\n", 2, "rules", "expected a list"),
        ("pack: p\nrules:\n- text\n", 3, "rules.0", "expected a mapping"),
        ("- a\n", 1, None, "expected a mapping"),
        ("pack: p\npakc: q\n", 2, "pakc", "did you mean `pack`"),
        ("pack: p\nunit:\nrules: []\n", 2, "unit", "is empty"),
        ("pack: p\nby: [1]\nrules: []\n", 2, "by.0", 'quote it: "1"'),
    ],
)
def test_a_pack_of_the_wrong_shape_is_refused(tmp_path: Path, text: str, line: int, key: str | None, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, text)
    assert said in caught.value.problem
    assert (caught.value.line, caught.value.key) == (line, key)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("60s", 60), ("5m", 300), ("24h", 86_400), ("28d", 2_419_200), ("1h30m", 5400), ("500ms", 0.5), (45, 45), (0, 0)],
)
def test_durations_are_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", "5", "5 m", "5min", "-5m", -5, True, None, float("nan"), "m", "5m5"])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(written)


def test_margins_and_shares_are_fractions() -> None:
    assert parse_margin("2%") == (0.02, False)
    assert parse_margin("0.5 pp") == (0.005, True)
    assert parse_share("5%") == 0.05
    for wrong in ("105%", "5pp", "-1%", 0.05, "5"):
        with pytest.raises(ValueError, match="expected a share"):
            parse_share(wrong)


# --- finding packs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["checkout", "checkout.yaml", "rules/checkout.yaml"])
def test_a_shipped_pack_is_found_by_name(tmp_path: Path, name: str) -> None:
    assert rule_pack_path(name, tmp_path) == ROOT / "rules" / "checkout.yaml"


def test_a_file_beside_the_one_that_names_it_comes_first(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    own = tmp_path / "rules" / "checkout.yaml"
    own.write_text(SHOP)
    assert rule_pack_path("rules/checkout.yaml", tmp_path) == own
    assert rule_pack_path("../checkout.yaml", tmp_path / "rules" / "deeper") == own


def test_a_pack_that_is_nowhere_says_where_it_was_looked_for_and_what_ships(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        rule_pack_path("rules/chekout.yaml", tmp_path)
    said = caught.value.problem
    assert str(tmp_path / "rules" / "chekout.yaml") in said
    assert "checkout, haproxy, http-opentelemetry, http-prometheus, web-vitals" in said
    assert "did you mean `checkout`" in said


def test_the_packs_of_an_installed_package_lie_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "site" / "watcher" / "rules"
    packed.mkdir(parents=True)
    (packed / "only.yaml").write_text(SHOP)
    monkeypatch.setattr("watcher.config.rule_packs.files", lambda package: tmp_path / "site" / package)
    assert rule_pack_path("only", tmp_path) == packed / "only.yaml"


def test_a_path_does_not_climb_out_of_the_shipped_packs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no rule pack"):
        rule_pack_path("rules/../pyproject.toml", tmp_path)


# --- the packs that ship --------------------------------------------------------------------------------------------


def test_the_five_packs_ship() -> None:
    shipped = ["checkout", "haproxy", "http-opentelemetry", "http-prometheus", "web-vitals"]
    assert [path.stem for path in SHIPPED] == shipped


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_pack_explains_every_rule(path: Path) -> None:
    for found in load_rules(path):
        assert found.title
        assert found.measured_in
        assert found.help.endswith(".")
    assert path.read_text().startswith("# yaml-language-server: $schema=../schemas/rules.schema.json\n")


def test_the_shops_pack_is_what_the_shop_promises() -> None:
    errors, completion, load, paint = load_rules(ROOT / "rules" / "checkout.yaml")
    assert {found.by for found in (errors, completion, load, paint)} == {("feature",)}
    assert {found.unit for found in (errors, completion, load, paint)} == {"instance"}
    assert (errors.kind, errors.margin, errors.critical) == (Kind.RATIO, 0.5, True)
    assert (completion.kind, completion.matures, completion.critical) == (Kind.RATE, 1500.0, True)
    assert (load.kind, load.objective, load.margin) == (Kind.LATENCY, 2.5, 0.1)
    assert (paint.kind, paint.required) == (Kind.GAUGE, False)


def test_a_pack_is_described_in_a_line_per_rule(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP.replace("margin: 2%", "margin: 0.5pp, measured_in: checkouts"))
    head, errors, completion, load, paint = check_rules(path)
    assert head == f"{path}: pack shop, 4 rules"
    assert errors == (
        'request-errors (ratio): http_requests_total{code=~"5.."} of http_requests_total; '
        "higher is worse; margin 50 %; a stream per feature; unit instance; "
        "new values of error_type stand out; critical"
    )
    assert "lower is worse; margin 0.5 percentage points; matures in 25m; measured in checkouts" in completion
    assert "requests of page_load_seconds over 2.5s" in load
    assert paint.endswith("optional")


@pytest.mark.parametrize("name", list(schemas.FILES))
def test_the_schemas_are_those_of_the_models(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == schemas.text(schemas.FILES[name]), (
        "run python scripts/schemas.py"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_an_editor_finds_nothing_wrong_with_a_shipped_pack(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    checked = jsonschema.Draft7Validator(json.loads((ROOT / "schemas" / "rules.schema.json").read_text()))
    pack = read(path).root.value
    checked.validate(pack)
    assert not checked.is_valid(pack | {"rules": [pack["rules"][0] | {"margn": "5%"}]})


def test_a_schema_allows_no_unknown_and_no_empty_keys() -> None:
    for model in schemas.FILES.values():
        schema = schemas.schema(model)
        shapes = [schema, *schema["definitions"].values()]
        assert all(shape["additionalProperties"] is False for shape in shapes)
        assert '"null"' not in json.dumps(schema)

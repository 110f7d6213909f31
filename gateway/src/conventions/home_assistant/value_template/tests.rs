use super::*;

/// Checks template and payload against a number; `None` if there is no reading.
#[track_caller]
fn check(template: &str, payload: &str, expect: Option<f64>) {
    let json = serde_json::from_str(payload).ok();
    let template = ValueTemplate::parse(template).unwrap_or_else(|| panic!("{template}"));
    let got = match template.evaluate(payload, json.as_ref()) {
        TemplateOutcome::Number(number) => Some(number),
        TemplateOutcome::Text(_) | TemplateOutcome::Missing => None,
    };
    assert_eq!(got, expect, "{template:?} {payload}");
}

/// Checks template and payload against a text.
#[track_caller]
fn check_text(template: &str, payload: &str, expect: TemplateOutcome) {
    let json = serde_json::from_str(payload).ok();
    let template = ValueTemplate::parse(template).unwrap_or_else(|| panic!("{template}"));
    assert_eq!(template.evaluate(payload, json.as_ref()), expect, "{template:?} {payload}");
}

#[test]
fn templates_are_evaluated() {
    check("{{ value }}", "21.5", Some(21.5));
    check("{{value|float}}", " 21.5\n", Some(21.5));
    check("{{ value_json.temperature }}", r#"{"temperature": 23.20}"#, Some(23.2));
    check("{{ value_json['a b'].c[1] }}", r#"{"a b": {"c": [1, 2]}}"#, Some(2.0));
    check(r#"{{ value_json["x"] | float(0) | round(1) }}"#, r#"{"x": "1.25"}"#, Some(1.2));
    check("{{ value_json.x | round }}", r#"{"x": 2.5}"#, Some(2.0));
    check("{{ value_json.x | int }}", r#"{"x": -2.7}"#, Some(-2.0));
    check("{{ (value | float * 1.8 + 32) | round(1) }}", "21.5", Some(70.7));
    check("{{ value_json.raw / 10 }}", r#"{"raw": 215}"#, Some(21.5));
    check("{{ (value_json.raw | float / 1023 * 100) | round(0) }}", r#"{"raw": 512}"#, Some(50.0));
    check("{{- value_json.x -}}", r#"{"x": true}"#, Some(1.0));
    check("{{ 100 - value | float }}", "30", Some(70.0));
    check("{{ -value_json.x | abs }}", r#"{"x": 3}"#, Some(3.0));
    check("{{ value_json.x | is_defined }}", r#"{"x": 3}"#, Some(3.0));
    check("{{ value_json.x | is_defined }}", r#"{"y": 3}"#, None);
    check("{{ float(value) * 2 }}", "3", Some(6.0));
    check("{{ value_json.y }}", r#"{"x": 3}"#, None);
    check("{{ value_json.x * 2 }}", r#"{"x": "ON"}"#, None);
    check("{{ value_json }}", "7", Some(7.0));
    check("{{ value.split(' ')[0] | float }}", "21.5 C", Some(21.5));
    check("{{ value_json.t | replace(',', '.') | float }}", r#"{"t": "21,5"}"#, Some(21.5));
    check("{{ value_json.get('x') }}", r#"{"x": 3}"#, Some(3.0));
    check("{{ value_json.x | multiply(0.1) | round(2) }}", r#"{"x": 215}"#, Some(21.5));
    check("{{ value_json.x // 10 + value_json.x % 10 }}", r#"{"x": 37}"#, Some(10.0));
    check("{{ max(value_json.a, value_json.b) }}", r#"{"a": 1, "b": 2}"#, Some(2.0));
    check_text("{{ value_json.x }}", "warm", TemplateOutcome::Text("warm".to_owned()));
    check_text(
        "{{ value_json.x | float(0) }}",
        r#"{"x": "warm"}"#,
        TemplateOutcome::Text("warm".into()),
    );
    check_text("{{ value }}", "unavailable", TemplateOutcome::Missing);
}

#[test]
fn what_stands_in_for_an_absent_field_is_no_reading() {
    let (with, without) = (r#"{"x": 48.5, "y": 1}"#, r#"{"y": 35.2}"#);
    for template in [
        "{{value_json.x if value_json.x is defined else 0}}",
        "{{ value_json.x if 'x' in value_json else 0 }}",
        "{{ 0 if value_json.x is not defined else value_json.x }}",
        "{{ value_json.x | default(0) }}",
        "{{ value_json.x | default(0) | float(0) | round(1) }}",
        "{{ value_json.x | d(none) }}",
        "{{ value_json.get('x', 0) }}",
        "{{ value_json.x or 0 }}",
        "{{ iif(value_json.x is defined, value_json.x, 0) }}",
        "{{ value_json.x if value_json.x is defined and value_json.x is number else 'unknown' }}",
        "{{ value_json.x if value_json.x }}",
        "{% if value_json.x is defined %}{{ value_json.x }}{% else %}0{% endif %}",
        "{% if value_json.x is defined %} {{ value_json.x | round(1) }} {% endif %}",
        "{% if value_json.x is not defined -%} 0 {%- else %}{{ value_json.x }}{%- endif %}",
        "{% set t = value_json.x | default(-127) %}{{ t | float }}",
        "{% set t = value_json.x %}{% if t is none %}{% elif t %}{{ t }}{% else %}0{% endif %}",
        "{# the tank #}{{ value_json.x }}",
    ] {
        check(template, with, Some(48.5));
        check(template, without, None);
        check(template, "{}", None);
    }
    // One field replaces another.
    let either = "{{ value_json.x if value_json.x is defined else value_json.y }}";
    check(either, with, Some(48.5));
    check(either, without, Some(35.2));
    check("{{ value_json.x | default(value_json.y) }}", without, Some(35.2));
    check("{{ value_json.x + 1 }}", without, None);
    check("{{ value_json.y + value_json.x | default(0) }}", without, None);
    check("{{ 5 }}", with, None);
}

#[test]
fn what_is_chosen_by_the_payload_is_a_reading() {
    let on = r#"{"s": "open", "n": 3}"#;
    let text = |template: &str, expect: &str| {
        check_text(template, on, TemplateOutcome::Text(expect.into()));
    };
    text("{{ 'ON' if value_json.s == 'open' else 'OFF' }}", "ON");
    text("{{ 'ON' if value_json.s != 'open' else 'OFF' }}", "OFF");
    text("{{ value_json.s | upper }}", "OPEN");
    text("{% if value_json.n > 2 and value_json.n <= 3 %}ON{% else %}OFF{% endif %}", "ON");
    text("{{ 'OFF' if value_json.n not in [1, 2] else 'ON' }}", "OFF");
    check("{% if value_json.s == 'open' %}1{% else %}0{% endif %}", on, Some(1.0));
    check("{{ 0 if value_json.n < 5 else value_json.n }}", on, Some(0.0));
    check("{{ iif(value_json.s in 'open opened', 1, 0) }}", on, Some(1.0));
    check_text("{{ 'ON' if value_json.z == 'open' else 'OFF' }}", on, TemplateOutcome::Missing);
    check("{% if value_json.z == 'open' %}1{% else %}0{% endif %}", on, None);
    check("{{ value_json.n if value_json.n > 5 else none }}", on, None);
}

#[test]
fn unknown_syntax_is_refused() {
    let refuse = |template: &str| assert_eq!(ValueTemplate::parse(template), None, "{template}");
    refuse("");
    refuse("value");
    refuse("{{ value");
    refuse("{{ states('sensor.x') }}");
    refuse("{{ value | timestamp_custom('%H') }}");
    refuse("{% for x in value_json %}{{ x }}{% endfor %}");
    refuse("{% if value == 'ON' %}1");
    refuse("{% endif %}{{ value }}");
    refuse("{% set value = 3 %}{{ value }}");
    refuse("{{ value_json. }}");
    refuse("{{ value_json['x' }}");
    refuse("{{ (value }}");
    refuse("{{ value | abs(1) }}");
    refuse("{{ now() - value }}");
    refuse(&format!("{{{{ {}value }}}}", "(".repeat(2_000)));
    refuse(&format!("{{{{ {}value }}}}", "(".repeat(500)));
    refuse(&format!("{{{{ {}value }}}}", "-".repeat(500)));
    refuse(&format!("{{{{ {}value }}}}", "not ".repeat(100)));
    refuse(&format!("{{{{ value{} }}}}", "*1".repeat(400)));
    refuse(&format!("{{{{ value{} }}}}", "[0]".repeat(300)));
    refuse(&"{% if value %}".repeat(60));
}

#[test]
fn what_a_template_may_cost_is_bounded() {
    let mut template = String::from("{% set a = value ~ value %}");
    template.push_str(&"{% set a = a ~ a ~ a ~ a %}".repeat(30));
    template.push_str("{{ a }}");
    check_text(&template, &"x".repeat(10_000), TemplateOutcome::Missing);
}

proptest::proptest! {
    #[test]
    fn any_text_is_understood_or_refused(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "{{", "}}", "{%", "%}", "if", "else", "endif", "value_json.x", "value", "|",
                "default(0)", "is defined", "(", ")", "==", "-", "'a'", "1", "not", "and", "[0]", " ",
            ]),
            0..30,
        ),
        payload in ".{0,20}",
    ) {
        if let Some(template) = ValueTemplate::parse(&parts.concat()) {
            let json = serde_json::from_str(&payload).ok();
            let _ = template.evaluate(&payload, json.as_ref());
        }
    }
}

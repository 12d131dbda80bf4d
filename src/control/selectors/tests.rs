//! Selectors as tables of cases.

use super::*;

fn profiles(text: &str) -> BTreeMap<String, ProfileConfig> {
    toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn tags(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_selector_fits_or_does_not() {
    let check = |select: &str, name: &str, of_stream: &str, expected: bool| {
        let profiles = profiles(&format!("p.select = {select}"));
        assert_eq!(profiles["p"].select.fit(name, &tags(of_stream)), expected, "{select} on {name} {of_stream}");
    };
    let front = r#"{ tags = [{ key = "Location", values = ["Front"] }] }"#;
    let front_or_yard = r#"{ tags = [{ key = "Location", values = ["Front", "Yard"] }] }"#;
    let front_outdoors = r#"{ tags = [{ key = "Location", values = ["Front"] }, { key = "Roof", values = ["no"] }] }"#;
    let gates_in_front = r#"{ names = ["gate-*"], tags = [{ key = "Location", values = ["Front"] }] }"#;
    let either = r#"[{ names = ["gate-*"] }, { tags = [{ key = "Location", values = ["Front"] }] }]"#;
    // Names.
    check(r#"{ names = ["front"] }"#, "front", "", true);
    check(r#"{ names = ["front"] }"#, "front-door", "", false);
    check(r#"{ names = ["front"] }"#, "Front", "", false);
    check(r#"{ names = ["back", "front"] }"#, "front", "", true);
    check(r#"{ names = ["gate-*"] }"#, "gate-1", "", true);
    check(r#"{ names = ["gate-*"] }"#, "gate-", "", true);
    check(r#"{ names = ["gate-*"] }"#, "gate", "", false);
    check(r#"{ names = ["gate-*"] }"#, "old-gate-1", "", false);
    check(r#"{ names = ["*-gate-*"] }"#, "old-gate-1", "", true);
    check(r#"{ names = ["gate-?"] }"#, "gate-1", "", true);
    check(r#"{ names = ["gate-?"] }"#, "gate-12", "", false);
    check(r#"{ names = ["gate-[1-3]"] }"#, "gate-2", "", true);
    check(r#"{ names = ["gate-[1-3]"] }"#, "gate-4", "", false);
    check(r#"{ names = ["{front,back}-door"] }"#, "back-door", "", true);
    check(r#"{ names = ["{front,back}-door"] }"#, "side-door", "", false);
    check(r#"{ names = ["cam.1"] }"#, "camX1", "", false);
    check(r#"{ names = ["*"] }"#, "whatever", "", true);
    // Tags.
    check(front, "a", "Location=Front", true);
    check(front, "a", "Location=Yard", false);
    check(front, "a", "location=Front", false);
    check(front, "a", "Location=front", false);
    check(front, "a", "Location=Fronts", false);
    check(front, "a", "", false);
    check(front_or_yard, "a", "Location=Yard", true);
    check(front_outdoors, "a", "Location=Front Roof=no", true);
    check(front_outdoors, "a", "Location=Front", false);
    check(front_outdoors, "a", "Location=Front Roof=yes", false);
    check(r#"{ tags = [{ key = "Location", values = [] }] }"#, "a", "Location=Attic", true);
    check(r#"{ tags = [{ key = "Location" }] }"#, "a", "Location=Attic", true);
    check(r#"{ tags = [{ key = "Location" }] }"#, "a", "Place=Attic", false);
    // Both, and lists.
    check(gates_in_front, "gate-1", "Location=Front", true);
    check(gates_in_front, "gate-1", "Location=Yard", false);
    check(gates_in_front, "door-1", "Location=Front", false);
    check(r#"{ names = [], tags = [{ key = "Location", values = ["Front"] }] }"#, "a", "Location=Front", true);
    check(r#"{ names = ["a"], tags = [] }"#, "a", "Location=Front", true);
    check(either, "gate-1", "", true);
    check(either, "door", "Location=Front", true);
    check(either, "door", "Location=Yard", false);
    check("[]", "a", "Location=Front", false);
}

#[test]
fn a_profile_is_chosen() {
    let profiles = profiles(
        r#"
        [doors]
        select = { names = ["*-door"] }
        [front]
        select = { tags = [{ key = "Location", values = ["Front"] }] }
        [front-too]
        select = { tags = [{ key = "Location", values = ["Front"] }] }
        [quiet]
        "#,
    );
    let check = |name: &str, of_stream: &str, explicit: Option<&str>, expected: Result<&str, &str>| {
        let got = profile_for(name, &tags(of_stream), explicit, &profiles);
        assert_eq!(got, expected.map_err(str::to_owned), "{name} {of_stream} {explicit:?}");
    };
    check("a", "", None, Ok("default"));
    check("a", "Location=Front", None, Ok("front"));
    // A change of tags or of the name moves a stream.
    check("a", "Location=Yard", None, Ok("default"));
    check("a-door", "Location=Yard", None, Ok("doors"));
    // Two fit: the first by name.
    check("a-door", "Location=Front", None, Ok("doors"));
    // What the stream names itself is above all selectors.
    check("a-door", "Location=Front", Some("quiet"), Ok("quiet"));
    check("a-door", "Location=Front", Some("default"), Ok("default"));
    check("a", "", Some("frnt"), Err("no profile is called `frnt`; did you mean `front`?"));
    check(
        "a",
        "",
        Some("zebra"),
        Err("no profile is called `zebra`; known are `doors`, `front`, `front-too`, `quiet`, `default`"),
    );
    let none = BTreeMap::new();
    assert_eq!(profile_for("a", &tags(""), None, &none), Ok("default"));
    assert_eq!(
        profile_for("a", &tags(""), Some("x"), &none),
        Err("no profile is called `x`; known are `default`".to_owned())
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let check = |select: &str, expected: &str| {
        let read: Result<BTreeMap<String, ProfileConfig>, _> = toml::from_str(&format!("p.select = {select}"));
        let told = match read {
            Ok(profiles) => profiles["p"].select.check().expect_err(select),
            Err(e) => e.message().to_owned(),
        };
        assert!(told.contains(expected), "{select}: {told}");
    };
    check(r#"{ name = ["a"] }"#, "unknown field `name`, expected `names` or `tags`");
    check(r#"[{ names = ["a"], tag = [] }]"#, "unknown field `tag`");
    check(r#"{ names = ["gate-[1"] }"#, "`gate-[1` is no pattern of names: unclosed character class");
    check(r#"{ names = [""] }"#, "an empty text fits no stream");
    check("{ }", "names = [\"*\"]");
    check("[{ names = ['a'] }, { tags = [] }]", "neither `names` nor `tags`");
    check("{ tags = [{ key = '' }] }", "`key` of a tag is empty");
    check("'front'", "a table with `names` and `tags`, or a list of such");
    check("{ tags = [{ values = ['Front'] }] }", "missing field `key`");
}

#[test]
fn the_form_of_kit_is_read() {
    let tag: TagFilter = serde_json::from_str(r#"{"key":"Location","values":["Front"]}"#).expect("json");
    assert!(tag.fits(&tags("Location=Front")) && !tag.fits(&tags("Location=Back")));
    let text = r#"{"names":["gate-*"],"tags":[{"key":"Location","values":["Front"]}]}"#;
    let selectors: Selectors = serde_json::from_str(text).expect("json");
    assert!(selectors.fit("gate-1", &tags("Location=Front")));
    let selector: Selector = serde_json::from_str(text).expect("json");
    assert_eq!(serde_json::to_string(&selector).expect("json"), text);
}

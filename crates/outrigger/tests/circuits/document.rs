//! docs/circuits-api.md says what each member of `GET /api/v1/circuits` means: no more, and no less.

use std::collections::BTreeSet;
use std::path::Path;

use outrigger_testkit::eventually;
use serde_json::Value;

use super::{CART, CART_CLUSTER, Mesh};

/// The members that the tables of the document name.
fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/circuits-api.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let (_, tables) = text.split_once("## GET /api/v1/circuits").expect("its heading");
    let (tables, _) = tables.split_once("\n## ").expect("the next heading");
    let cells = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(member, _)| member.to_owned()).collect()
}

/// The paths of all values below one, those of a list under `[]`.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(all) => {
            for (name, value) in all {
                members(value, &format!("{path}{}{name}", if path.is_empty() { "" } else { "." }), found);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| members(value, &format!("{path}[]"), found)),
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn every_member_is_documented_and_every_documented_member_is_there() {
    let mesh = Mesh::start();
    mesh.open_cart();
    let drain = format!("/api/v1/endpoints/drain?cluster={CART_CLUSTER}&endpoint=cart-0&ttl=1h");
    assert_eq!(mesh.post(&drain).0, 200);
    eventually("an ejection", || {
        mesh.get("stock.shop", "x-echo-status: 503\r\n");
        (mesh.document()["ejections"] != Value::Array(Vec::new())).then_some(())
    });
    let mut found = BTreeSet::new();
    members(&mesh.document(), "", &mut found);
    let (status, _) = mesh.post(&format!("/api/v1/circuits/{CART}/force?state=open&ttl=1h"));
    assert_eq!(status, 200);
    members(&mesh.document(), "", &mut found);
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    // A member that is an object in one place is null in another.
    let all = found.clone();
    found.retain(|path| !all.iter().any(|other| other.starts_with(&format!("{path}."))));
    let undocumented: Vec<&String> = found.difference(&documented).collect();
    assert!(undocumented.is_empty(), "not in docs/circuits-api.md: {undocumented:?}");
    // The policies of kinds that this mesh does not have.
    let elsewhere = ["circuits[].policy.success_rate_threshold", "circuits[].policy.requests_min"];
    let missing: Vec<&String> =
        documented.difference(&found).filter(|path| !elsewhere.contains(&path.as_str())).collect();
    assert!(missing.is_empty(), "in docs/circuits-api.md, but not told: {missing:?}");
}

//! A lock that is not there, does not fit, was altered, or is of another version.

use crate::operator::Operator;

#[test]
fn no_lock_yet() {
    let operator = Operator::new();
    for command in ["check", "plan", "deploy"] {
        insta::assert_snapshot!("no_lock_yet", operator.refused(1, &[command]));
    }
}

#[test]
fn a_folder_that_changed_since_it_was_pinned() {
    let operator = Operator::with_module("{}\n");
    operator.put("site/index.html", "another page\n");
    let said = operator.refused(1, &["deploy"]);
    assert!(said.starts_with("error: the input `site` has changed since it was pinned ("), "{said}");
    assert!(said.ends_with("do:  `stead update site`, or `stead up`, which updates everything and deploys"), "{said}");
}

#[test]
fn packages_that_were_never_resolved() {
    let operator = Operator::with_module("{\n  services.nginx.packages = [\"nginx-light\"],\n}\n");
    insta::assert_snapshot!(operator.refused(1, &["deploy"]));
}

#[test]
fn another_release_than_is_pinned() {
    let operator = Operator::with_module("{}\n");
    operator.replace("stead.ncl", "debian:bookworm", "debian:trixie");
    insta::assert_snapshot!(operator.refused(1, &["check"]));
}

#[test]
fn a_lock_that_is_cut_off() {
    let operator = Operator::with_module("{}\n");
    let whole = operator.read("stead.lock");
    operator.put("stead.lock", &whole[..whole.len() / 2]);
    let said = operator.refused(1, &["deploy"]);
    assert!(said.contains("/stead.lock`, line ") && said.contains("EOF while parsing"), "{said}");
}

/// A test for an altered lock: `update` refuses it too, and says what then.
macro_rules! altered {
    ($($name:ident: $old:expr => $new:expr;)*) => {
        $(#[test]
        fn $name() {
            let operator = Operator::with_module("{}\n");
            operator.replace("stead.lock", $old, $new);
            let said = operator.refused(1, &["deploy"]);
            assert_eq!(operator.refused(1, &["update"]), said);
            insta::assert_snapshot!(said);
        })*
    };
}

altered! {
    a_lock_of_a_newer_format: "\"format\": 1" => "\"format\": 2";
    a_lock_with_a_field_that_is_unknown: "\"requested\"" => "\"wanted\"";
    a_lock_whose_package_leaves_the_archive: "pool/main/nginx" => "../../nginx";
    a_lock_with_half_a_digest: "\"sha256\": \"" => "\"sha256\": \"zz";
    a_lock_that_contradicts_itself: "\"nginx\"\n" => "\"apache2\"\n";
    a_lock_with_an_unfinished_merge: "{\n" => "<<<<<<< HEAD\n{\n";
}

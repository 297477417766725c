//! What is asked of the program: unknown words, names and places; and how failures are told to people and to programs.

use crate::operator::Operator;

/// A test for wrong usage, which exits with 2.
macro_rules! wrong_usage {
    ($($name:ident: $words:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(Operator::new().refused(2, &$words));
        })*
    };
}

wrong_usage! {
    an_unknown_command: ["deplpy"];
    an_unknown_option: ["deploy", "--atach"];
    an_option_without_its_value: ["deploy", "--lab"];
    a_value_that_is_no_number: ["deploy", "--confirm-deadline", "soon"];
    a_word_too_many: ["status", "main", "other"];
    options_that_exclude_each_other: ["deploy", "--lab", "t1", "--host", "h"];
    an_unknown_value: ["completions", "fsh"];
    a_command_that_is_missing: ["exec"];
    a_host_that_would_be_an_option_of_ssh: ["deploy", "--host", "-oProxyCommand=x"];
}

/// A test for a request that makes no sense in this project, which exits with 1.
macro_rules! wrong_request {
    ($($name:ident: $words:expr;)*) => {
        $(#[test]
        fn $name() {
            let operator = Operator::with_module("{}\n");
            insta::assert_snapshot!(operator.refused(1, &$words));
        })*
    };
}

wrong_request! {
    an_unknown_server: ["deploy", "mian"];
    a_server_like_none: ["deploy", "production"];
    an_unknown_input: ["update", "stie"];
    an_unknown_lab: ["deploy", "--lab", "nope"];
    a_lab_name_that_cannot_be: ["lab", "up", "My_Lab"];
    a_lab_of_an_unknown_release: ["lab", "up", "try", "--release", "sid"];
    a_forward_that_is_none: ["lab", "up", "try", "--forward", "8080"];
    a_host_that_is_none: ["status", "--host", "a b"];
    a_port_that_is_none: ["status", "--host", "h:99999"];
    a_user_that_is_none: ["status", "--host", "Root!@h"];
    a_project_that_is_there: ["init"];
}

#[test]
fn several_servers_and_none_named() {
    let operator = Operator::with_module("{}\n");
    operator.replace("stead.ncl", "servers.main", "servers.other = { host = \"h\", modules = [] }, servers.main");
    insta::assert_snapshot!(operator.refused(1, &["deploy"]), @r"
    error: the project has several servers: main, other
      now: nothing was changed on any server
      do:  say which one is meant
    ");
}

#[test]
fn a_host_that_refuses_connections() {
    insta::assert_snapshot!(Operator::with_module("{}\n").refused(3, &["deploy"]));
}

/// Takes connections, and never says a word: what a host that hangs looks like.
#[test]
fn a_host_that_hangs_is_given_up() {
    let operator = Operator::with_module("{}\n");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("root@{}", silent.local_addr().unwrap());
    let began = std::time::Instant::now();
    let said = operator.refused(3, &["deploy", "--host", &host]);
    assert!(began.elapsed() < std::time::Duration::from_secs(40), "{:?}", began.elapsed());
    insta::assert_snapshot!(said);
}

/// An operator whose `ssh` is answered with these bytes.
fn answered_by(answer: &[u8]) -> Operator {
    use std::os::unix::fs::PermissionsExt;
    let mut operator = Operator::with_module("{}\n");
    operator.put("bin/ssh", &format!("#!/bin/sh\ncat {}/bin/answer\ncat > /dev/null\n", operator.root().display()));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(operator.root().join("bin/ssh"), mode).unwrap();
    std::fs::write(operator.root().join("bin/answer"), answer).unwrap();
    operator.set("PATH", &format!("{}/bin:{}", operator.root().display(), std::env::var("PATH").unwrap()));
    operator
}

#[test]
fn an_agent_of_another_version_is_told() {
    use stead_remote::frame::Connection;
    let mut answer = format!("stead-bootstrap 1 root 0 1 {} 252 1\n", std::env::consts::ARCH).into_bytes();
    Connection::new(std::io::empty(), &mut answer).send(&serde_json::json!({ "protocol": 999 })).unwrap();
    insta::assert_snapshot!(answered_by(&answer).refused(3, &["status"]));
}

/// What the first words over the line tell of a machine that was booted by something else (version 0).
#[test]
fn a_server_without_systemd_is_told_before_anything_is_sent() {
    let answer = format!("stead-bootstrap 1 root 0 1 {} 0 0\n", std::env::consts::ARCH);
    insta::assert_snapshot!(answered_by(answer.as_bytes()).refused(3, &["deploy"]));
}

#[test]
fn a_failure_as_json_is_one_document_with_the_same_words_and_the_code() {
    let operator = Operator::with_module("{}\n");
    for (code, words) in [(1, ["deploy", "mian"].as_slice()), (2, &["deplpy"]), (3, &["status"])] {
        let ended = operator.stead(&[&["--json"], words].concat());
        assert_eq!(ended.code, code);
        let document: serde_json::Value = serde_json::from_str(&ended.out).expect(&ended.out);
        assert_eq!(document["version"], 1);
        let result = &document["result"];
        assert_eq!(result["exit"], code);
        assert_eq!(result["runs"], serde_json::Value::Null);
        let first = ended.err.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
        assert_eq!(result["error"].as_str().and_then(|error| error.lines().next()), Some(first));
        let hint = ended.err.lines().find_map(|line| line.strip_prefix("  do:  ")).unwrap();
        assert_eq!(result["hint"], hint);
    }
}

#[test]
fn errors_are_coloured_when_asked_for_and_never_by_themselves_off_a_terminal() {
    let mut operator = Operator::with_module("{\n  services.nginx.serverTokens = \"yes\",\n}\n");
    assert!(!operator.stead(&["check"]).err.contains('\u{1b}'));
    assert!(!operator.stead(&["check", "--color", "never"]).err.contains('\u{1b}'));
    assert!(operator.stead(&["check", "--color", "always"]).err.contains('\u{1b}'));
    operator.set("NO_COLOR", "1");
    assert!(!operator.stead(&["check"]).err.contains('\u{1b}'));
}

#[test]
fn quiet_leaves_the_results_and_the_error() {
    let operator = Operator::with_module("{}\n");
    let loud = operator.stead(&["check"]);
    let quiet = operator.stead(&["check", "--quiet"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    assert_eq!(quiet.out, loud.out);
    let said = operator.refused(1, &["--quiet", "deploy", "mian"]);
    assert_eq!(operator.stead(&["--quiet", "deploy", "mian"]).err.trim_end(), said);
}

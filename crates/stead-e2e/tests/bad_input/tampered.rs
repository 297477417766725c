//! Files of Stead's that somebody wrote into, on the server.

use crate::refusal::{holds, refused};
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

#[test]
fn what_somebody_wrote_into_is_named_by_verify_never_gone_back_to_and_put_back_by_a_deploy() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let page = || stage.lab.run("grep -rl '^page' /var/lib/stead/trees");
    let first = page();
    let object = stage.lab.run(&format!("find /var/lib/stead/objects -samefile {first}"));
    let tamper = |file: &str| stage.lab.run(&format!("echo tampered > {file}"));

    // The page, which is the object too: they are one file.
    tamper(&first);
    let said = refused(&stage, 1, &["verify"]);
    holds(&said, &[" things are altered or missing", "  now: the server runs generation ", "`stead deploy` puts back"]);
    let named = stage.stead(&["verify"]).exits(1).stdout;
    for path in [&first, &object] {
        holds(&named, &[path]);
    }
    let put_back = stage.stead(&["deploy"]).well();
    assert_eq!(put_back.text("outcome"), "unchanged", "{put_back}");
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    stage.stead(&["verify"]).well();

    // Another generation that needs the same file gets the right one.
    tamper(&page());
    small.extra = "services.nginx.serverTokens = true,".into();
    small.write(&stage.project);
    stage.stead(&["deploy"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    stage.stead(&["verify"]).well();

    // A generation that is altered is not gone back to.
    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    tamper(&stage.lab.run("grep -rl '^page one' /var/lib/stead/trees"));
    let said = refused(&stage, 3, &["rollback"]);
    holds(&said, &["index.html` was altered on the server", "  now: the server runs generation "]);
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
}

#[test]
fn a_lock_that_calls_a_package_something_else_than_it_is_never_gets_to_the_server() {
    let stage = Stage::with_small(&Small { has_app: false, ..Small::default() }, Machine::bookworm());
    stage.stead(&["up"]).well();
    // Its SHA-256 stays, so the server has all of it already.
    let file = stage.project.join("stead.lock");
    let honest = std::fs::read_to_string(&file).unwrap();
    let of_nginx = honest.find("\"name\": \"nginx\"").unwrap();
    let version = of_nginx + honest[of_nginx..].find("\"version\": \"").unwrap() + "\"version\": \"".len();
    let own = honest[version..].split('"').next().unwrap();
    std::fs::write(&file, format!("{}9:{}", &honest[..version], &honest[version..])).unwrap();
    let said = refused(&stage, 3, &["deploy"]);
    holds(&said, &[&format!("the package nginx is pinned as version `9:{own}`, but calls itself `{own}`")]);
    holds(&said, &["  now: the server runs generation ", "  do:  somebody altered stead.lock: restore it"]);
    std::fs::write(&file, honest).unwrap();
    assert_eq!(stage.stead(&["deploy"]).well().text("outcome"), "unchanged");
}

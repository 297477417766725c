//! What pebble never does: rate limits, an overloaded authority, advice on renewal, answers that are not ACME.

mod fake;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use fake::{Answer, Fake, directory};
use jiff::Timestamp;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stead_acme::{Accounts, Certificates, Due, Issued, Refused, WebRoot, due, obtain, renewal};
use support::{Signer, authority, declared, domains};

const WITHIN: Duration = Duration::from_secs(30);

/// Everything that a client needs before its order is answered by `order`.
fn until_the_order(order: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::start(move |_, path, here| match path {
        "/dir" => Answer::json(200, directory(here)),
        "/nonce" => Answer::json(200, ""),
        "/account" => Answer::json(201, json!({ "status": "valid" })).with("Location", format!("{here}/account/1")),
        _ => order(path),
    })
}

fn ask(fake: &Fake) -> Result<Issued, Refused> {
    ask_replacing(fake, None)
}

fn ask_replacing(fake: &Fake, replaces: Option<&[u8]>) -> Result<Issued, Refused> {
    let folder = tempfile::tempdir().expect("a folder");
    let accounts = Accounts::open(folder.path()).expect("a folder");
    let authority = authority(&fake.directory(), &fake.roots);
    let web_root = WebRoot(folder.path().join("challenges"));
    obtain(&declared(&["site.test"], &authority), &authority, &accounts, &web_root, replaces, WITHIN)
}

fn problem(kind: &str, detail: &str) -> serde_json::Value {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail })
}

#[test]
fn a_rate_limit_is_told_with_the_authority_s_words_and_time() {
    let fake = until_the_order(|_| {
        let words = "too many certificates already issued for site.test";
        Answer::json(429, problem("rateLimited", words)).with("Retry-After", 3600)
    });
    let now = Timestamp::now();
    let refused = ask(&fake).unwrap_err();
    let Refused::RateLimited { words, retry_after } = &refused else { panic!("{refused:?}") };
    assert_eq!(words, "too many certificates already issued for site.test");
    let seconds = retry_after.unwrap().as_second() - now.as_second();
    assert!((3600..3700).contains(&seconds), "{seconds}");
    assert_eq!(refused.retry_after(), *retry_after);
    assert_eq!(fake.count("POST /order"), 1, "it is not asked again");
}

#[test]
fn a_rate_limit_counts_wherever_it_comes_and_however_it_is_written() {
    let accounts = Fake::start(|_, path, here| match path {
        "/dir" => Answer::json(200, directory(here)),
        "/nonce" => Answer::json(200, ""),
        _ => Answer::json(429, problem("rateLimited", "too many registrations")),
    });
    assert!(matches!(ask(&accounts).unwrap_err(), Refused::RateLimited { retry_after: None, .. }));
    let at_the_door =
        Fake::start(|_, _, _| Answer::json(429, "<html>").with("Retry-After", "Fri, 31 Dec 2038 23:59:59 GMT"));
    let refused = ask(&at_the_door).unwrap_err();
    let Refused::RateLimited { retry_after, .. } = &refused else { panic!("{refused:?}") };
    let told: Timestamp = "2038-12-31T23:59:59Z".parse().unwrap();
    let error = retry_after.unwrap().as_second() - told.as_second();
    assert!((-1..=1).contains(&error), "{error}");
}

#[test]
fn an_overloaded_authority_is_asked_again_when_it_says() {
    let turns = AtomicUsize::new(0);
    let fake = Fake::start(move |_, path, here| match path {
        "/dir" if turns.fetch_add(1, Ordering::SeqCst) == 0 => Answer::json(503, "busy").with("Retry-After", 0),
        "/dir" => Answer::json(200, directory(here)),
        "/nonce" => Answer::json(200, ""),
        _ => Answer::json(500, problem("serverInternal", "our database is gone")),
    });
    let refused = ask(&fake).unwrap_err();
    assert!(matches!(&refused, Refused::Failed { words, .. } if words == "our database is gone"), "{refused:?}");
    assert_eq!(fake.count("GET /dir"), 2);
}

#[test]
fn an_authority_that_is_down_for_long_is_not_waited_for() {
    let fake = Fake::start(|_, _, _| Answer::json(503, "maintenance").with("Retry-After", 7200));
    let refused = ask(&fake).unwrap_err();
    assert!(matches!(&refused, Refused::Failed { retry_after: Some(_), .. }), "{refused:?}");
    assert_eq!(fake.count("GET /dir"), 1);
}

#[test]
fn what_is_no_directory_is_told() {
    let fake = Fake::start(|_, _, _| Answer::json(200, "<html>welcome</html>"));
    let refused = ask(&fake).unwrap_err();
    assert!(refused.to_string().contains("does not answer as an ACME directory does"), "{refused}");
    let fake = Fake::start(|_, _, _| Answer::json(404, "<html>nothing</html>"));
    assert!(ask(&fake).unwrap_err().to_string().contains("/dir answered 404"));
}

#[test]
fn a_refused_name_is_told_with_the_authority_s_words_for_it() {
    let fake = until_the_order(|_| {
        let part = json!({
            "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "this name is on our list\u{1b}[31m",
            "identifier": { "type": "dns", "value": "site.test" },
        });
        let mut problem = problem("rejectedIdentifier", "some names are refused");
        problem["subproblems"] = json!([part]);
        Answer::json(400, problem)
    });
    let refused = ask(&fake).unwrap_err();
    let Refused::Order(words) = &refused else { panic!("{refused:?}") };
    assert_eq!(words, "some names are refused; site.test: this name is on our list [31m");
}

#[test]
fn a_new_account_that_is_not_known_either_ends_it() {
    let fake = until_the_order(|_| Answer::json(401, problem("unauthorized", "this account is closed")));
    let refused = ask(&fake).unwrap_err();
    assert!(matches!(&refused, Refused::Account(words) if words == "this account is closed"), "{refused:?}");
    assert_eq!(fake.count("POST /account"), 2, "a new one is made once");
}

#[test]
fn an_order_that_may_not_replace_is_made_without() {
    let fake = until_the_order(|_| Answer::json(409, problem("alreadyReplaced", "it was replaced already")));
    let chain = Signer::new().issue(&["site.test"]).chain;
    ask_replacing(&fake, Some(chain.as_bytes())).unwrap_err();
    assert_eq!(fake.count("POST /order"), 2);
}

#[test]
fn advice_on_renewal_is_asked_for_as_often_as_the_authority_wants() {
    let fake = Fake::start(|_, path, here| match path {
        "/dir" => Answer::json(200, directory(here)),
        _ => {
            let window = json!({ "start": "2020-01-02T04:00:00Z", "end": "2020-01-03T04:00:00Z" });
            Answer::json(200, json!({ "suggestedWindow": window })).with("Retry-After", 3600)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(folder.path(), None).unwrap();
    let names = domains(&["site.test"]);
    let authority = authority(&fake.directory(), &fake.roots);
    let at = |second: i64| Timestamp::from_second(Timestamp::now().as_second() + second).unwrap();
    let window = |now| renewal::window(&certificates, &names[0], &authority, now, WITHIN);
    assert_eq!(window(at(0)), None, "there is no certificate");
    let pair = Signer::new().issue(&["site.test"]);
    certificates.install(&names[0], &names, pair.chain.as_bytes(), pair.key.as_bytes()).unwrap();
    let advised = window(at(0)).unwrap();
    assert_eq!(advised.start.to_string(), "2020-01-02T04:00:00Z");
    let found = certificates.look(&names[0]);
    assert_eq!(due(&found, &declared(&["site.test"], &authority), at(0), Some(&advised)), Some(Due::Advised));
    assert_eq!(window(at(1800)), Some(advised.clone()));
    assert_eq!(fake.count("GET /dir"), 1, "it is remembered for as long as the authority said");
    assert_eq!(window(at(3700)), Some(advised));
    assert_eq!(fake.count("GET /dir"), 2);
}

#[test]
fn an_authority_without_advice_is_no_error() {
    let fake = Fake::start(|_, _, _| Answer::json(500, "broken"));
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(folder.path(), None).unwrap();
    let names = domains(&["site.test"]);
    let authority = authority(&fake.directory(), &fake.roots);
    let pair = Signer::new().issue(&["site.test"]);
    certificates.install(&names[0], &names, pair.chain.as_bytes(), pair.key.as_bytes()).unwrap();
    for _ in 0..2 {
        assert_eq!(renewal::window(&certificates, &names[0], &authority, Timestamp::now(), WITHIN), None);
    }
    assert_eq!(fake.count("GET /dir"), 1, "it is not asked at every look");
}

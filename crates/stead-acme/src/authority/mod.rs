//! Getting a certificate from an authority by ACME (RFC 8555): account, order, challenges, key, certificate.
//!
//! Promises that it ends within its time, that what it returns passed [`crate::check::check`], and that no answer to a challenge is left
//! behind. May be called from many threads at once. Puts nothing in place: that is [`crate::store`]'s.

mod account;
pub(crate) mod client;
mod key;
mod refused;

pub use account::Accounts;
pub use refused::{Failed, Refused};

use crate::challenges::{Answer, Answers, Challenges};
use crate::check;
use account::Known;
use client::{Http, again, wait};
use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
};
use jiff::Timestamp;
use refused::{Asked, is_account_gone, problem, refused, words};
use std::fmt;
use std::time::Duration;
use stead_model::certificate::{Authority, Certificate};

/// A certificate as it was issued, and its key.
pub struct Issued {
    /// PEM: the certificate, and those between it and the root.
    pub chain: String,
    /// PEM (PKCS#8): its private key.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Issued").field("chain", &self.chain).field("key", &"…").finish()
    }
}

/// Times between questions how far it is, where the authority does not say.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Asks the authority for a certificate for all names of `certificate`, with a new key. `replaces` is the chain (PEM) that it takes
/// the place of, where the authority wants to know. Ends `within` this time.
pub fn obtain(
    certificate: &Certificate,
    authority: &Authority,
    accounts: &Accounts,
    challenges: &dyn Challenges,
    replaces: Option<&[u8]>,
    within: Duration,
) -> Result<Issued, Refused> {
    let http = Http::new(authority, within)?;
    let told = |error| refused(Asked::Order, &authority.directory, error);
    let key = key::generate(authority.key_type)?;
    let request = key::request(&key, &certificate.names)?;
    let mut order = begin(certificate, authority, accounts, &http, replaces)?;
    let answers = answer(&mut order, challenges, &told)?;
    validated(&mut order, &http, &told)?;
    drop(answers);
    if order.state().status == OrderStatus::Ready {
        again(|| wait(order.finalize_csr(request.der()))).map_err(told)?;
    }
    let chain = collect(&mut order, &http, &told)?;
    let key = key.serialize_pem();
    check::check(chain.as_bytes(), key.as_bytes(), &certificate.names, Timestamp::now())?;
    Ok(Issued { chain, key })
}

/// Makes sure that there is an account at the authority, as far as that is known here: one that is kept is not asked about. Ends `within`
/// this time.
pub fn enroll(authority: &Authority, accounts: &Accounts, within: Duration) -> Result<(), Refused> {
    accounts.get(authority, &Http::new(authority, within)?).map(drop)
}

/// Closes the account at the authority, for good; the next order makes a new one. Ends `within` this time.
pub fn deactivate(authority: &Authority, accounts: &Accounts, within: Duration) -> Result<(), Refused> {
    accounts.deactivate(authority, &Http::new(authority, within)?)
}

/// The order. An account that is gone is replaced once.
fn begin(
    certificate: &Certificate,
    authority: &Authority,
    accounts: &Accounts,
    http: &Http,
    replaces: Option<&[u8]>,
) -> Result<Order, Refused> {
    let names: Vec<Identifier> =
        certificate.names.iter().map(|name| Identifier::Dns(name.as_str().to_owned())).collect();
    let leaf = replaces.and_then(|chain| check::leaf(chain).ok());
    let replaces = leaf.and_then(|leaf| CertificateIdentifier::try_from(&leaf).ok());
    let order = |known: &Known| {
        let plain = || again(|| wait(known.account.new_order(&NewOrder::new(&names))));
        let Some(replaces) = &replaces else { return plain() };
        let replacing = || NewOrder::new(&names).replaces(replaces.clone().into_owned());
        match again(|| wait(known.account.new_order(&replacing()))) {
            // An authority may not know the certificate, or not want to hear of it (RFC 9773, section 5).
            Err(error) if !is_account_gone(&error) && is_about_the_order(&error) => plain(),
            other => other,
        }
    };
    let known = accounts.get(authority, http)?;
    let told = |error| refused(Asked::Order, &authority.directory, error);
    match order(&known) {
        Err(error) if is_account_gone(&error) => {
            let known = accounts.renew(authority, http, &known)?;
            order(&known).map_err(|error| match problem(&error) {
                Some(problem) if is_account_gone(&error) => Refused::Account(words(problem)),
                _ => told(error),
            })
        }
        other => other.map_err(told),
    }
}

/// Whether another order may be accepted.
fn is_about_the_order(error: &Error) -> bool {
    match problem(error) {
        Some(problem) => problem.status.is_none_or(|status| status < 500 && status != 429),
        None => matches!(error, Error::Unsupported(_)) || error.to_string().contains("replaces field mismatch"),
    }
}

/// Answers every challenge, then tells the authority that all are.
fn answer<'a>(
    order: &mut Order,
    challenges: &'a dyn Challenges,
    told: &dyn Fn(Error) -> Refused,
) -> Result<Answers<'a>, Refused> {
    let fetched = again(|| {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = wait(authorizations.next()) {
            authorization?;
        }
        Ok(())
    });
    fetched.map_err(told)?;
    let mut answers = Answers::new(challenges);
    for turn in [Turn::Answer, Turn::Tell] {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = wait(authorizations.next()) {
            let mut authorization = authorization.map_err(told)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
                let words = "the authority offers no challenge of the kind HTTP-01".to_owned();
                return Err(Refused::Validation { failed: vec![Failed { name, words }] });
            };
            match turn {
                Turn::Answer => {
                    let key_authorization = challenge.key_authorization();
                    let answer =
                        Answer { name: &name, token: &challenge.token, key_authorization: key_authorization.as_str() };
                    let put = answers.put(&answer);
                    put.map_err(|error| Refused::Here(format!("cannot put the answer for {name} in place: {error}")))?;
                }
                Turn::Tell => match again(|| wait(challenge.set_ready())) {
                    // What became of the challenge is asked for anyhow.
                    Err(Error::Api(_)) => {}
                    other => other.map_err(told)?,
                },
            }
        }
    }
    Ok(answers)
}

#[derive(Clone, Copy)]
enum Turn {
    Answer,
    Tell,
}

/// Waits until the authority has seen all answers.
fn validated(order: &mut Order, http: &Http, told: &dyn Fn(Error) -> Refused) -> Result<(), Refused> {
    let mut pause = FIRST_PAUSE;
    loop {
        again(|| wait(order.refresh()).map(|_| ())).map_err(told)?;
        match order.state().status {
            OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing => return Ok(()),
            OrderStatus::Invalid => return Err(failures(order, told)),
            OrderStatus::Pending => {}
        }
        if !http.pause(pause) {
            let names = pending(order);
            return Err(Refused::TimedOut(format!("it has not looked at {} yet", names.join(", "))));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the authority says of each name of an order that failed.
fn failures(order: &mut Order, told: &dyn Fn(Error) -> Refused) -> Refused {
    let mut failed = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = wait(authorizations.next()) {
        if let Err(error) = again(|| wait(authorization.refresh()).map(|_| ())) {
            return told(error);
        }
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        let said: Vec<String> = problems.map(words).collect();
        if !said.is_empty() {
            failed.push(Failed { name, words: said.join("; ") });
        } else if authorization.status == AuthorizationStatus::Invalid {
            failed.push(Failed { name, words: "the authority gives no reason".to_owned() });
        }
    }
    match &order.state().error {
        _ if !failed.is_empty() => Refused::Validation { failed },
        Some(problem) => Refused::Order(words(problem)),
        None => Refused::Order("the authority gives no reason".to_owned()),
    }
}

/// Names that the authority has not looked at.
fn pending(order: &mut Order) -> Vec<String> {
    let mut names = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = wait(authorizations.next()) {
        if authorization.status == AuthorizationStatus::Pending {
            names.push(authorization.identifier().to_string());
        }
    }
    names
}

/// Waits for the certificate of a finalized order.
fn collect(order: &mut Order, http: &Http, told: &dyn Fn(Error) -> Refused) -> Result<String, Refused> {
    let mut pause = FIRST_PAUSE;
    loop {
        match order.state().status {
            OrderStatus::Valid => {
                let chain = again(|| wait(order.certificate())).map_err(told)?;
                let missing = || Refused::Failed { words: "there is no certificate".to_owned(), retry_after: None };
                return chain.ok_or_else(missing);
            }
            OrderStatus::Invalid => return Err(failures(order, told)),
            _ => {}
        }
        if !http.pause(pause) {
            return Err(Refused::TimedOut("it has not issued the certificate yet".to_owned()));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        again(|| wait(order.refresh()).map(|_| ())).map_err(told)?;
    }
}

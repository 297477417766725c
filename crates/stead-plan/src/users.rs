//! System users: one for each app that does not name another.

use stead_model::hash::Hash;
use stead_model::name::{Name, UserName};

/// What a user name may be at most (`useradd(8)`, CAVEATS).
const LONGEST: usize = 32;

/// The user of an app: `stead-<app>`; a name that would be too long is cut, and told apart by a digest.
pub(crate) fn of_app(app: &Name) -> UserName {
    let whole = format!("stead-{app}");
    let name = if whole.len() <= LONGEST {
        whole
    } else {
        let digest = Hash::of(app.as_str().as_bytes()).short();
        format!("{}-{digest}", &whole[..LONGEST - digest.len() - 1])
    };
    name.parse().expect("an app's name is made of what a user's may have")
}

/// `sysusers.d(5)` lines for these users.
pub(crate) fn sysusers<'a>(users: impl IntoIterator<Item = &'a UserName>) -> String {
    users.into_iter().map(|user| format!("u {user} - \"Stead service\" /nonexistent /usr/sbin/nologin\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart() {
        let user = |tail: &str| of_app(&format!("{}{tail}", "a".repeat(40)).parse().unwrap());
        assert_ne!(user("x"), user("y"));
        assert_eq!(user("x").as_str().len(), LONGEST);
    }
}

//! Secrets: which files are made of them on the server, and how services get those.
//!
//! A unit names a file of secrets by the hash of its recipe, so that a changed secret is a changed unit. Promises that a secret
//! stands in no text of a generation: only its name, its version, and its encrypted file.

use crate::error::PlanError;
use crate::placeholder::Used;
use crate::plan::{Draft, Sealed, Standing};
use crate::unit_file::UnitFile;
use std::collections::BTreeMap;
use stead_model::generation::Role;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{CredentialName, SecretName, VariableName};
use stead_model::secret::{self, Content, SecretFile, Secrets, Template, Version};
use stead_model::server::Server;

/// The unit that makes the files of secrets at a boot.
pub(crate) const UNIT: &str = "stead-secrets.service";
/// The name of a service that this is.
const NAME: &str = "secrets";

/// The files of secrets of a generation that is being made.
pub(crate) struct SecretFiles<'a> {
    server: &'a Server,
    sealed: &'a BTreeMap<SecretName, Sealed>,
    files: BTreeMap<Hash, SecretFile>,
}

impl<'a> SecretFiles<'a> {
    pub(crate) fn new(server: &'a Server, sealed: &'a BTreeMap<SecretName, Sealed>) -> Self {
        Self { server, sealed, files: BTreeMap::new() }
    }

    /// Where the file will be on the server.
    ///
    /// # Errors
    /// When a secret in it is not there, or not for this server.
    pub(crate) fn place(&self, file: &SecretFile) -> Result<String, PlanError> {
        self.check(&file.option, file.secrets())?;
        Ok(format!("{}/{}", layout::SECRETS, self.id(file)))
    }

    /// Whether an option may use these secrets.
    fn check<'s>(&self, option: &str, secrets: impl IntoIterator<Item = &'s SecretName>) -> Result<(), PlanError> {
        for name in secrets {
            let (option, secret) = (option.to_owned(), name.clone());
            let sealed = self.sealed.get(name);
            let sealed =
                sealed.ok_or_else(|| PlanError::NoSecret { option: option.clone(), secret: secret.clone() })?;
            match sealed.standing {
                Standing::Granted => {}
                Standing::NotGranted => {
                    return Err(PlanError::SecretNotGranted { option, secret, server: self.server.name.clone() });
                }
                Standing::NotKeyed => return Err(PlanError::SecretNotKeyed { option, secret }),
            }
        }
        Ok(())
    }

    /// Adds a file, whose place was asked for before.
    pub(crate) fn add(&mut self, file: SecretFile) {
        self.files.entry(self.id(&file)).or_insert(file);
    }

    fn id(&self, file: &SecretFile) -> Hash {
        file.id(&self.versions(file))
    }

    fn versions(&self, file: &SecretFile) -> BTreeMap<SecretName, Version> {
        let version = |name: &SecretName| Some((name.clone(), self.sealed.get(name)?.version.clone()));
        file.secrets().into_iter().filter_map(version).collect()
    }
}

/// A text in pieces, when it has secrets in it.
///
/// # Errors
/// When a placeholder in it names no secret.
pub(crate) fn template(option: &str, text: &str) -> Result<Option<Template>, PlanError> {
    secret::template(text).map_err(|text| PlanError::UnknownPlaceholder { option: option.to_owned(), text })
}

/// What a service is given: variables and files, with secrets in them or without.
pub(crate) struct Given<'s> {
    /// The option of the service: `apps.web`.
    pub(crate) option: &'s str,
    /// Its variables.
    pub(crate) environment: &'s BTreeMap<VariableName, String>,
    /// Its files.
    pub(crate) credentials: &'s BTreeMap<CredentialName, String>,
}

impl Given<'_> {
    /// The unit that makes the files of which the service needs some.
    pub(crate) fn needed(&self) -> Option<&'static str> {
        let has_secret = self.environment.values().any(|value| value.contains(secret::PLACEHOLDER));
        (has_secret || !self.credentials.is_empty()).then_some(UNIT)
    }

    /// Writes the lines by which systemd hands all of it to the service.
    ///
    /// # Errors
    /// When a value cannot be a variable's, or a secret is not there or not for this server.
    pub(crate) fn write<'a>(
        &self,
        draft: &mut Draft<'a>,
        unit: &mut UnitFile,
        used: &mut Used<'a>,
    ) -> Result<(), PlanError> {
        let mut hidden: BTreeMap<VariableName, Template> = BTreeMap::new();
        for (variable, value) in self.environment {
            let option = format!("{}.environment.{variable}", self.option);
            if let Some(template) = template(&option, value)? {
                draft.secrets.check(&option, template.iter().filter_map(secret::Part::secret))?;
                hidden.insert(variable.clone(), resolved(draft, &option, template, used)?);
                continue;
            }
            let value = draft.places.resolve(&option, value, used)?;
            unit.environment(&option, variable.as_str(), &value)?;
        }
        let mut is_secret = !hidden.is_empty();
        if is_secret {
            let option = format!("{}.environment", self.option);
            let place = place(draft, SecretFile { option, content: Content::Environment(hidden), owner: None })?;
            unit.line("EnvironmentFile", place);
        }
        for (name, text) in self.credentials {
            let option = format!("{}.credentials.{name}", self.option);
            let template = template(&option, text)?;
            is_secret |= template.is_some();
            let template = template.unwrap_or_else(|| vec![secret::Part::Text(text.clone())]);
            let content = Content::Text(resolved(draft, &option, template, used)?);
            let place = place(draft, SecretFile { option, content, owner: None })?;
            unit.line("LoadCredential", format!("{name}:{place}"));
        }
        if is_secret {
            keep_out_of_disks(unit);
        }
        Ok(())
    }
}

/// The words around secrets, with their placeholders replaced.
fn resolved<'a>(
    draft: &Draft<'a>,
    option: &str,
    template: Template,
    used: &mut Used<'a>,
) -> Result<Template, PlanError> {
    let part = |part| match part {
        secret::Part::Text(text) => draft.places.resolve(option, &text, used).map(secret::Part::Text),
        secret => Ok(secret),
    };
    template.into_iter().map(part).collect()
}

fn place(draft: &mut Draft<'_>, file: SecretFile) -> Result<String, PlanError> {
    let place = draft.secrets.place(&file)?;
    draft.secrets.add(file);
    Ok(place)
}

/// What holds secrets is not swapped, and its memory is not dumped.
pub(crate) fn keep_out_of_disks(unit: &mut UnitFile) {
    unit.line("MemorySwapMax", 0);
    // With 0 a program that collects dumps would still be told of it, with the environment; with 1 the kernel does not
    // call it (core(5), "Piping core dumps to a program"; fs/coredump.c).
    unit.line("LimitCORE", 1);
    // The BEAM writes a dump of its own when it falls (`erl(1)`, ERL_CRASH_DUMP_SECONDS): not at all.
    unit.line("Environment", "ERL_CRASH_DUMP_SECONDS=0");
}

/// Adds the encrypted files that are needed, and the unit that makes the files of them at a boot.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<Secrets, PlanError> {
    let files = std::mem::take(&mut draft.secrets.files);
    if files.is_empty() {
        return Ok(Secrets::default());
    }
    draft.reserve(&[NAME])?;
    let versions: BTreeMap<_, _> = files.values().flat_map(|file| draft.secrets.versions(file)).collect();
    for name in versions.keys() {
        if let Some(sealed) = draft.inputs.secrets.get(name) {
            draft.files.add_bytes(&secret::sealed_path(name), sealed.content.clone());
        }
    }
    let mut unit = UnitFile::new("what makes files of secrets, in memory");
    unit.section("Unit").line("Description", "Stead secrets").line("StartLimitIntervalSec", 0);
    unit.section("Service").line("Type", "oneshot").line("RemainAfterExit", "yes");
    unit.line("ExecStart", format!("{} agent secrets", layout::AGENT));
    unit.line("MemorySwapMax", 0).line("LimitCORE", 1);
    draft.add_own(UNIT, &unit, Role::Service {}, Some("multi-user.target"));
    Ok(Secrets { versions, files })
}

#[cfg(test)]
mod tests;

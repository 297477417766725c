//! The index as the solver sees it.
//!
//! A virtual package is not a thing of its own here: a relation that it can meet becomes a choice
//! that includes exactly the versions of the packages that provide it. Packages are read from the
//! index when the solver asks for them.

use super::rules;
use crate::index::{self, Index, Package};
use crate::relation::{Bound, Relation, parse_version};
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, SolvableId, SolverCache, StringId, VersionSetId,
    VersionSetUnionId,
};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use stead_model::name::PackageName;

/// Some versions of a package.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Versions {
    Any,
    None,
    Within(Bound),
    Outside(Bound),
    /// These, because they provide something.
    Providing(BTreeSet<String>, String),
    /// All but these, because they provide something.
    NotProviding(BTreeSet<String>, String),
}

impl Versions {
    fn admit(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Within(bound) => bound.admits(version),
            Self::Outside(bound) => !bound.admits(version),
            Self::Providing(versions, _) => versions.contains(version),
            Self::NotProviding(versions, _) => !versions.contains(version),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::None => out.write_str("to be absent"),
            Self::Within(bound) => bound.fmt(out),
            Self::Outside(bound) => write!(out, "not to be {bound}"),
            Self::Providing(_, what) => write!(out, "for `{what}`"),
            Self::NotProviding(_, what) => write!(out, "not to provide `{what}`"),
        }
    }
}

/// What the pool keeps of a package.
#[derive(Debug)]
struct Known(Package);

impl fmt::Display for Known {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.0.name, self.0.version)
    }
}

impl VersionSet for Versions {
    type V = Known;
}

/// The packages that exist, and the rules of the runtime to be.
pub(super) struct Universe<'a> {
    index: &'a Index,
    architecture: &'a str,
    wanted: &'a BTreeSet<PackageName>,
    pool: Pool<Versions>,
    candidates: RefCell<HashMap<NameId, Vec<SolvableId>>>,
    failure: RefCell<Option<index::Error>>,
}

/// Whether a package is for this architecture.
pub(super) fn runs_on(package: &Package, architecture: &str) -> bool {
    package.architecture == architecture || package.architecture == "all"
}

impl<'a> Universe<'a> {
    pub(super) fn new(index: &'a Index, architecture: &'a str, wanted: &'a BTreeSet<PackageName>) -> Self {
        Self {
            index,
            architecture,
            wanted,
            pool: Pool::new(),
            candidates: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// The requirement that some version of the package is there.
    pub(super) fn any_version(&self, name: &str) -> ConditionalRequirement {
        self.set(name, Versions::Any).into()
    }

    pub(super) fn package(&self, id: SolvableId) -> &Package {
        &self.pool.resolve_solvable(id).record.0
    }

    /// What went wrong with the index meanwhile, once.
    pub(super) fn failure(&self) -> Option<index::Error> {
        self.failure.borrow_mut().take()
    }

    fn set(&self, name: &str, versions: Versions) -> VersionSetId {
        self.pool.intern_version_set(self.pool.intern_package_name(name), versions)
    }

    /// Nothing is found when the index is malformed; then the solver is stopped.
    fn sound(&self, found: Result<Vec<Package>, index::Error>) -> Vec<Package> {
        let mut packages = found.unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Vec::new()
        });
        packages.retain(|package| runs_on(package, self.architecture));
        packages
    }

    fn candidates(&self, name: NameId) -> Vec<SolvableId> {
        if let Some(known) = self.candidates.borrow().get(&name) {
            return known.clone();
        }
        let mut packages = self.sound(self.index.named(self.pool.resolve_package_name(name)));
        let mut seen = BTreeSet::new();
        packages.retain(|package| seen.insert(package.version.clone()));
        let found: Vec<SolvableId> =
            packages.into_iter().map(|package| self.pool.intern_solvable(name, Known(package))).collect();
        self.candidates.borrow_mut().insert(name, found.clone());
        found
    }

    fn is_for_here(&self, relation: &Relation) -> bool {
        relation
            .qualifier
            .as_deref()
            .is_none_or(|qualifier| matches!(qualifier, "any" | "native") || qualifier == self.architecture)
    }

    /// The packages other than `name` itself whose `Provides` meets the relation, with the versions that do.
    fn providers(&self, relation: &Relation) -> BTreeMap<PackageName, BTreeSet<String>> {
        let meets = |provide: &Relation| {
            provide.name == relation.name
                && match (&relation.version, &provide.version) {
                    (None, _) => true,
                    (Some(asked), Some(provided)) => asked.admits(&provided.version),
                    (Some(_), None) => false,
                }
        };
        let mut providers: BTreeMap<PackageName, BTreeSet<String>> = BTreeMap::new();
        for package in self.sound(self.index.providers(&relation.name)) {
            if package.name.as_str() != relation.name && package.provides.iter().any(meets) {
                providers.entry(package.name).or_default().insert(package.version);
            }
        }
        providers
    }

    /// The ways to meet one group of alternatives; `None` when nothing is to be done.
    fn requirement(&self, package: &Package, group: &[Relation]) -> Option<ConditionalRequirement> {
        let is_met = |relation: &Relation| {
            relation.name == package.name.as_str()
                && relation.version.as_ref().is_none_or(|bound| bound.admits(&package.version))
                || rules::is_met(package.name.as_str(), &relation.name) && !self.wanted.contains(relation.name.as_str())
        };
        if group.iter().any(is_met) {
            return None;
        }
        let mut ways = Vec::new();
        for relation in group.iter().filter(|relation| self.is_for_here(relation)) {
            let versions = relation.version.clone().map_or(Versions::Any, Versions::Within);
            if !self.candidates(self.pool.intern_package_name(relation.name.as_str())).is_empty() {
                ways.push(self.set(&relation.name, versions));
            }
            for (provider, versions) in self.providers(relation) {
                ways.push(self.set(provider.as_str(), Versions::Providing(versions, relation.name.clone())));
            }
        }
        let Some((first, others)) = ways.split_first() else {
            // Nothing can meet it: the solver tells so in its own words.
            let relation = group.first()?;
            let versions = relation.version.clone().map_or(Versions::Any, Versions::Within);
            return Some(self.set(&relation.name, versions).into());
        };
        Some(if others.is_empty() {
            (*first).into()
        } else {
            self.pool.intern_version_set_union(*first, others.iter().copied()).into()
        })
    }

    /// What must not be beside `package`.
    fn exclusions(&self, package: &Package, relation: &Relation) -> Vec<VersionSetId> {
        if !self.is_for_here(relation) {
            return Vec::new();
        }
        let mut exclusions = Vec::new();
        if relation.name != package.name.as_str()
            && !self.candidates(self.pool.intern_package_name(relation.name.as_str())).is_empty()
        {
            exclusions
                .push(self.set(&relation.name, relation.version.clone().map_or(Versions::None, Versions::Outside)));
        }
        let others = self.providers(relation).into_iter().filter(|(provider, _)| *provider != package.name);
        exclusions.extend(others.map(|(provider, versions)| {
            self.set(provider.as_str(), Versions::NotProviding(versions, relation.name.clone()))
        }));
        exclusions
    }
}

impl Interner for Universe<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl fmt::Display + '_ {
        &self.pool.resolve_solvable(solvable).record
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl fmt::Display + '_ {
        let versions: BTreeSet<&str> = solvables.iter().map(|id| self.package(*id).version.as_str()).collect();
        let name = solvables.first().map(|id| self.package(*id).name.to_string()).unwrap_or_default();
        format!("{name} {}", versions.into_iter().collect::<Vec<_>>().join(" or "))
    }

    fn display_name(&self, name: NameId) -> impl fmt::Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl fmt::Display + '_ {
        self.pool.resolve_version_set(version_set)
    }

    fn display_string(&self, string: StringId) -> impl fmt::Display + '_ {
        self.pool.resolve_string(string)
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(version_set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Universe<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let versions = self.pool.resolve_version_set(version_set);
        candidates.iter().copied().filter(|id| versions.admit(&self.package(*id).version) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let candidates = self.candidates(name);
        (!candidates.is_empty()).then(|| Candidates {
            candidates,
            hint_dependencies_available: HintDependenciesAvailable::None,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _solver: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_by(|a, b| {
            let (a, b) = (parse_version(&self.package(*a).version), parse_version(&self.package(*b).version));
            b.ok().cmp(&a.ok())
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let package = self.package(solvable);
        let requirements = package.depends.iter().filter_map(|group| self.requirement(package, group)).collect();
        let constrains = package.excludes.iter().flat_map(|relation| self.exclusions(package, relation)).collect();
        Dependencies::Known(KnownDependencies { requirements, constrains })
    }

    fn should_cancel_with_value(&self) -> Option<Box<dyn Any>> {
        self.failure.borrow().is_some().then(|| Box::new(()) as Box<dyn Any>)
    }
}

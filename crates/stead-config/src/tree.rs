//! The result of an evaluation: values with the places that they came from.
//!
//! The walk evaluates everything, in the order of the names, and goes on after a failure: so that a misspelt option
//! can be told before the failure that follows from it, and so that the order of modules does not choose the error.

use nickel_lang_core::cache::CacheHub;
use nickel_lang_core::error::EvalError;
use nickel_lang_core::eval::cache::CacheImpl;
use nickel_lang_core::eval::value::{Container, NickelValue, ValueContentRef};
use nickel_lang_core::eval::{Closure, VirtualMachine};
use nickel_lang_core::position::{PosIdx, RawSpan};
use nickel_lang_core::term::MergePriority;
use nickel_lang_core::term::record::{Field, SharedMetadata};
use nickel_lang_core::typ::TypeF;
use std::collections::BTreeMap;

/// Deeper than any sensible configuration; what is deeper refers to itself.
const DEEPEST: usize = 48;

/// A value of the evaluated configuration.
pub(crate) struct Node {
    /// Where its name is written.
    pub(crate) key: Option<RawSpan>,
    /// Where its value is written.
    pub(crate) value: PosIdx,
    /// Type, text and default, as declared.
    pub(crate) metadata: SharedMetadata,
    /// What it is.
    pub(crate) shape: Shape,
}

/// What a value is.
pub(crate) enum Shape {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Record(BTreeMap<String, Node>),
    /// Declared as optional, and not set.
    Unset,
    /// Declared as required, and not set.
    Missing,
    /// Not part of the result, and not evaluated.
    Hidden,
    /// A function, or something else that is not data.
    Other,
    /// Its evaluation failed; the failure is in the walk's list.
    Failed,
}

/// A failure of the walk: of which value, and why.
pub(crate) struct Problem {
    pub(crate) path: Vec<String>,
    pub(crate) reason: Reason,
}

/// Why a value could not be had.
pub(crate) enum Reason {
    /// Nickel's own words.
    Nickel(EvalError),
    /// Deeper than any sensible configuration.
    TooDeep,
}

impl Node {
    /// The field of this name, if this is a record that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.shape {
            Shape::Record(fields) => fields.get(name),
            _ => None,
        }
    }

    /// Takes the field of this name out of the record.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        match &mut self.shape {
            Shape::Record(fields) => fields.remove(name),
            _ => None,
        }
    }

    /// The value at the end of these names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The fields, if this is a record.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&String, &Node)> {
        match &self.shape {
            Shape::Record(fields) => Some(fields),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.shape {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether some module says what may be here: a type, a text, or a default.
    pub(crate) fn has_declaration(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| {
            metadata.doc.is_some()
                || metadata.opt
                || !metadata.annotation.is_empty()
                || metadata.priority == MergePriority::Bottom
        })
    }

    /// Whether its names are free, as in `apps.NAME`.
    pub(crate) fn has_free_names(&self) -> bool {
        self.metadata.iter_annots().any(|annotation| matches!(annotation.typ.typ, TypeF::Dict { .. }))
    }

    /// As JSON; what is not set is left out.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.shape {
            Shape::Bool(value) => Value::Bool(*value),
            Shape::Number(value) => Value::Number(value.clone()),
            Shape::Text(value) => Value::String(value.clone()),
            Shape::List(items) => items.iter().map(Node::to_json).collect(),
            Shape::Record(fields) => fields
                .iter()
                .filter(|(_, node)| !matches!(node.shape, Shape::Unset | Shape::Hidden))
                .map(|(name, node)| (name.clone(), node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Shape::Null | Shape::Unset | Shape::Missing | Shape::Hidden | Shape::Other | Shape::Failed => Value::Null,
        }
    }
}

/// Evaluates everything below `value`. What fails is in the list, and `Failed` in the tree.
pub(crate) fn walk(machine: VirtualMachine<'_, CacheHub, CacheImpl>, value: NickelValue) -> (Node, Vec<Problem>) {
    let mut walk = Walk { machine, path: Vec::new(), problems: Vec::new() };
    let root = walk.node(value.into(), None, SharedMetadata::empty());
    (root, walk.problems)
}

struct Walk<'a> {
    machine: VirtualMachine<'a, CacheHub, CacheImpl>,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn node(&mut self, closure: Closure, key: Option<RawSpan>, metadata: SharedMetadata) -> Node {
        let mut node = Node { key, value: closure.value.pos_idx(), metadata, shape: Shape::Failed };
        if self.path.len() > DEEPEST {
            self.problems.push(Problem { path: self.path.clone(), reason: Reason::TooDeep });
            return node;
        }
        match self.machine.eval_closure(closure) {
            Ok(closure) => {
                node.value = closure.value.pos_idx();
                node.shape = self.shape(&closure);
            }
            Err(error) => {
                self.machine.reset();
                self.problems.push(Problem { path: self.path.clone(), reason: Reason::Nickel(error) });
            }
        }
        node
    }

    fn shape(&mut self, closure: &Closure) -> Shape {
        match closure.value.content_ref() {
            ValueContentRef::Null => Shape::Null,
            ValueContentRef::Bool(value) => Shape::Bool(value),
            ValueContentRef::Number(number) => {
                match nickel_lang_core::serialize::serialize_num(number, serde_json::value::Serializer) {
                    Ok(serde_json::Value::Number(number)) => Shape::Number(number),
                    _ => Shape::Other,
                }
            }
            ValueContentRef::String(text) => Shape::Text(text.to_string()),
            ValueContentRef::EnumVariant(variant) if variant.arg.is_none() => {
                Shape::Text(variant.tag.label().to_owned())
            }
            ValueContentRef::Array(array) => {
                let items: Vec<NickelValue> = array.iter_with_pending_contracts(closure.value.pos_idx()).collect();
                let nodes = items.into_iter().enumerate().map(|(index, value)| {
                    self.below(index.to_string(), |walk| {
                        walk.node(Closure { value, env: closure.env.clone() }, None, SharedMetadata::empty())
                    })
                });
                Shape::List(nodes.collect())
            }
            ValueContentRef::Record(Container::Empty) => Shape::Record(BTreeMap::new()),
            ValueContentRef::Record(Container::Alloc(record)) => {
                let sorted: BTreeMap<&str, _> =
                    record.fields.iter().map(|(name, field)| (name.label(), (name, field))).collect();
                let nodes = sorted.into_iter().map(|(name, (identifier, field))| {
                    let node =
                        self.below(name.to_owned(), |walk| walk.field(closure, identifier.pos.into_opt(), field));
                    (name.to_owned(), node)
                });
                Shape::Record(nodes.collect())
            }
            _ => Shape::Other,
        }
    }

    fn field(&mut self, record: &Closure, key: Option<RawSpan>, field: &Field) -> Node {
        let absent = |shape| Node { key, value: PosIdx::NONE, metadata: field.metadata.clone(), shape };
        if field.metadata.not_exported() {
            return absent(Shape::Hidden);
        }
        match field.value_with_pending_contracts() {
            Some(value) => self.node(Closure { value, env: record.env.clone() }, key, field.metadata.clone()),
            None if field.metadata.opt() => absent(Shape::Unset),
            None => absent(Shape::Missing),
        }
    }

    fn below<T>(&mut self, name: String, act: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name);
        let result = act(self);
        self.path.pop();
        result
    }
}

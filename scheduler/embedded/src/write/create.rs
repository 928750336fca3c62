//! Create: the object gets its name, its identity and its defaults, is proven
//! valid, and is stored if nothing has its name yet.

use http::StatusCode;
use serde_json::{Value, json};

use super::{ATTEMPTS, Shown, Write, Written};
use crate::fields::{self, Operation as Ownership};
use crate::moment;
use crate::object::{field, is_deleting, meta, set, set_meta};
use crate::refusal::{Malformed, Refusal, Subject};
use crate::rules;
use crate::schema::fit;
use crate::selector::is_subdomain;
use crate::store::Expect;

/// Characters of made-up names: no vowels and nothing that looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Write<'_> {
    /// Stores a new object.
    pub(crate) async fn create(&self, object: Value) -> Result<Written, Refusal> {
        self.create_owned(object, Ownership::Update).await
    }

    pub(super) async fn create_owned(&self, object: Value, ownership: Ownership) -> Result<Written, Refusal> {
        let made_up = meta(&object, "name").is_empty() && self.objects.name.is_none();
        if !made_up {
            let name = meta(&object, "name").to_owned();
            let name = self.objects.name.clone().unwrap_or(name);
            let created = self.attempt(object, ownership).await?;
            return created.ok_or_else(|| self.exists(&name));
        }
        for _ in 0..ATTEMPTS {
            if let Some(created) = self.attempt(object.clone(), ownership).await? {
                return Ok(created);
            }
        }
        Err(self.contended(meta(&object, "generateName")))
    }

    fn exists(&self, name: &str) -> Refusal {
        Refusal::AlreadyExists(self.resource().subject(name))
    }

    /// Stores the object; none if another one has its name already.
    async fn attempt(&self, object: Value, ownership: Ownership) -> Result<Option<Written>, Refusal> {
        let (name, created, warnings) = self.prepare(object, ownership)?;
        let written = |object| Written { status: StatusCode::CREATED, object, warnings };
        if self.query.dry_run {
            if self.api.store.get(&self.key(&name)).is_some() {
                return Err(self.exists(&name));
            }
            return Ok(Some(written(Shown::Made(created))));
        }
        let stored = self.commit(self.put(&name, created, Expect::Absent)).await?;
        Ok(stored.map(|stored| written(Shown::stored(self.resource(), &stored))))
    }

    /// The object as it will be stored, under its name.
    pub(crate) fn prepare(
        &self,
        mut object: Value,
        ownership: Ownership,
    ) -> Result<(String, Value, Vec<String>), Refusal> {
        self.expect_kind(&mut object)?;
        let name = self.name_new(&mut object)?;
        self.place(&mut object)?;
        if !meta(&object, "resourceVersion").is_empty() {
            return Err(
                Malformed::Unmeaning("resourceVersion should not be set on objects to be created").into()
            );
        }
        for gone in [
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "resourceVersion",
        ] {
            set_meta(&mut object, gone, None);
        }
        if self.resource().has_status() && !rules::keeps_status(self.resource()) {
            set(&mut object, "status", None);
        }
        let applied = (ownership == Ownership::Apply).then(|| object.clone());
        let warnings = self.unknown_fields(fit(&self.resource().schema, &mut object))?;
        let given = applied.unwrap_or_else(|| object.clone());
        set_meta(&mut object, "uid", Some(self.api.uid().into()));
        set_meta(&mut object, "creationTimestamp", Some(moment::text(self.now).into()));
        set_meta(&mut object, "generation", rules::has_generation(self.resource()).then(|| json!(1)));
        rules::on_create(self.api, self.resource(), &mut object)?;
        self.validate(&name, &object, None)?;
        self.expect_namespace()?;
        fields::on_create(self, &given, &mut object, ownership);
        Ok((name, object, warnings))
    }

    /// The body must be of the kind that the path names; where it says nothing, it is.
    pub(super) fn expect_kind(&self, object: &mut Value) -> Result<(), Refusal> {
        let kind = &self.resource().kind;
        let expected = [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())];
        for (name, expected) in expected {
            let found = field(object, name);
            if found.is_empty() {
                set(object, name, Some(expected.into()));
            } else if found != expected {
                return Err(Malformed::Kind { expected, found: found.chars().take(128).collect() }.into());
            }
        }
        Ok(())
    }

    /// The name of a new object; where only a beginning is given, one is made up.
    fn name_new(&self, object: &mut Value) -> Result<String, Refusal> {
        let given = meta(object, "name").to_owned();
        let name = match (&self.objects.name, given.is_empty()) {
            (Some(path), false) if *path != given => {
                return Err(Malformed::Mismatch { field: "name", body: given, path: path.clone() }.into());
            }
            (Some(path), _) => path.clone(),
            (None, false) => given,
            (None, true) => {
                let prefix = meta(object, "generateName");
                if prefix.is_empty() {
                    return Err(Malformed::NoName.into());
                }
                let prefix: String = prefix.chars().take(58).collect();
                let random = self.api.entropy.sixteen();
                let letters = random
                    .iter()
                    .take(5)
                    .filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
                format!("{prefix}{}", letters.map(|letter| char::from(*letter)).collect::<String>())
            }
        };
        set_meta(object, "name", Some(name.clone().into()));
        Ok(name)
    }

    /// The namespace of the object is that of the path.
    pub(super) fn place(&self, object: &mut Value) -> Result<(), Refusal> {
        let path = &self.objects.namespace;
        let given = meta(object, "namespace");
        if !given.is_empty() && given != path {
            let (body, path) = (given.chars().take(64).collect(), path.clone());
            return Err(Malformed::Mismatch { field: "namespace", body, path }.into());
        }
        set_meta(object, "namespace", self.resource().kind.namespaced.then(|| path.clone().into()));
        Ok(())
    }

    /// Nothing is created in a namespace that is not there, or that is going.
    fn expect_namespace(&self) -> Result<(), Refusal> {
        if !self.resource().kind.namespaced {
            return Ok(());
        }
        let name = &self.objects.namespace;
        let namespaces = self.api.registry.find("", "v1", "namespaces");
        let found = namespaces.and_then(|namespaces| self.api.get(&namespaces, "", name));
        match found {
            None => {
                let subject =
                    Subject { group: String::new(), kind: "namespaces".to_owned(), name: name.clone() };
                Err(Refusal::NotFound(subject))
            }
            Some(namespace) if is_deleting(&namespace) => Err(Refusal::Forbidden {
                subject: self.resource().subject(self.objects.name.as_deref().unwrap_or_default()),
                why: format!(
                    "unable to create new content in namespace {name} because it is being terminated"
                ),
            }),
            Some(_) => Ok(()),
        }
    }
}

/// Whether a name may be in a path and in a file name.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty() && is_subdomain(text, longest)
}

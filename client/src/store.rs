//! A bucket as the store of a backup repository.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use coffer_model::{BucketName, ObjectKey};

use crate::backup::{BlobStore, BlobStoreError};
use crate::call::CallError;
use crate::connect::Client;
use crate::objects::GetError;
use crate::terms::ReadTerms;

/// No blob of a repository comes near: packs have at most some tens of MiB.
const BLOB_BYTES_MAX: u64 = 256 << 20;

/// One bucket, reached through one client.
pub struct BucketStore {
    client: Client,
    bucket: BucketName,
    terms: ReadTerms,
}

impl BucketStore {
    /// The store in this bucket, which exists.
    pub fn new(client: Client, bucket: BucketName) -> Self {
        Self::on(client, bucket, ReadTerms::default())
    }

    /// The store as it is read on these terms.
    pub fn on(client: Client, bucket: BucketName, terms: ReadTerms) -> Self {
        Self { client, bucket, terms }
    }

    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, BlobStoreError> {
        let read = async {
            let opened = self.client.get_on(&self.bucket, &key(name)?, range, &self.terms).await;
            let (_, body) = opened.map_err(|e| of_get(name, e))?;
            body.collect(BLOB_BYTES_MAX).await.map_err(|error| of_get(name, error))
        };
        read.await
    }
}

fn key(name: &str) -> Result<ObjectKey, BlobStoreError> {
    let refused = |error| BlobStoreError::Refused { name: name.to_owned(), reason: format!("{error}") };
    ObjectKey::new(name.as_bytes()).map_err(refused)
}

fn of_get(name: &str, error: GetError) -> BlobStoreError {
    match error {
        GetError::Call(error) => of_call(name, error),
        GetError::Length { .. } | GetError::Digest => BlobStoreError::Damaged { name: name.to_owned() },
        GetError::TooLarge { .. } => {
            BlobStoreError::Refused { name: name.to_owned(), reason: error.to_string() }
        }
    }
}

fn of_call(name: &str, error: CallError) -> BlobStoreError {
    let name = name.to_owned();
    match error {
        CallError::NotFound(_) => BlobStoreError::Missing { name },
        CallError::Damaged(_) => BlobStoreError::Damaged { name },
        CallError::Unavailable(_) | CallError::TimedOut(_) | CallError::Internal(_) => {
            BlobStoreError::Unavailable { name, reason: error.to_string() }
        }
        other => BlobStoreError::Refused { name, reason: other.to_string() },
    }
}

#[async_trait]
impl BlobStore for BucketStore {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        let (key, metadata) = (key(name)?, BTreeMap::new());
        let put = self.client.put_bytes(&self.bucket, &key, &metadata, body);
        put.await.map(|_| ()).map_err(|error| of_call(name, error))
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        self.read(name, None).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BlobStoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let bytes = self.read(name, Some(range)).await?;
        let whole = u64::try_from(bytes.len()).is_ok_and(|found| found == wanted);
        if whole { Ok(bytes) } else { Err(BlobStoreError::Truncated { name: name.to_owned() }) }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError> {
        let listed = self.client.list_at(&self.bucket, prefix.as_bytes(), self.terms.as_of).await;
        let objects = listed.map_err(|error| of_call(prefix, error))?;
        let names = objects.into_iter().map(|object| String::from_utf8(object.key.as_bytes().to_vec()));
        // Other writers may keep objects in the same bucket; names that no
        // repository has are not of this one.
        Ok(names.filter_map(Result::ok).collect())
    }

    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        match self.client.delete(&self.bucket, &key(name)?).await {
            Ok(_) | Err(CallError::NotFound(_)) => Ok(()),
            Err(error) => Err(of_call(name, error)),
        }
    }
}

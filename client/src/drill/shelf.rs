//! Where plans, records and schedules are kept: objects of a bucket of the
//! tenant's own, sealed and spread like all others, and back with the sites
//! after a loss. Nothing on the shelf is believed before it is verified.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffer_model::{BucketName, ObjectKey};

use crate::call::CallError;
use crate::connect::Client;
use crate::objects::GetError;

/// The bucket's name.
pub const EVIDENCE_BUCKET: &str = "coffer-evidence";

/// No file on the shelf comes near. In bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Why the shelf did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The service refused or failed.
    #[error("the bucket {EVIDENCE_BUCKET}: {0}")]
    Call(#[from] CallError),
    /// A file could not be read whole.
    #[error("the bucket {EVIDENCE_BUCKET}: {0}")]
    Get(#[from] GetError),
    /// A name that no file can have.
    #[error("\"{0}\" is no name of a file in the bucket {EVIDENCE_BUCKET}")]
    Name(String),
}

/// The tenant's shelf.
pub struct Shelf<'a> {
    client: &'a Client,
    bucket: BucketName,
}

impl<'a> Shelf<'a> {
    /// The shelf; the bucket is created with the tenant's policy if there is none.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn open(client: &'a Client) -> Result<Self, ShelfError> {
        let bucket =
            BucketName::new(EVIDENCE_BUCKET).map_err(|_| ShelfError::Name(EVIDENCE_BUCKET.to_owned()))?;
        let there = client.list_buckets().await?.iter().any(|found| found.name == bucket);
        if !there {
            match client.create_bucket(&bucket, None).await {
                // Somebody else was quicker.
                Ok(_) | Err(CallError::AlreadyExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { client, bucket })
    }

    fn key(name: &str) -> Result<ObjectKey, ShelfError> {
        ObjectKey::new(name.as_bytes()).map_err(|_| ShelfError::Name(name.to_owned()))
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), ShelfError> {
        let key = Self::key(name)?;
        self.client.put_bytes(&self.bucket, &key, &BTreeMap::new(), bytes.into()).await?;
        Ok(())
    }

    /// A file, if it is there.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ShelfError> {
        match self.client.get(&self.bucket, &Self::key(name)?, None).await {
            Ok((_, body)) => Ok(Some(body.collect(FILE_BYTES_MAX).await?.to_vec())),
            Err(GetError::Call(CallError::NotFound(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of the files below a prefix, in order.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, ShelfError> {
        let objects = self.client.list(&self.bucket, prefix.as_bytes()).await?;
        let names = objects.into_iter().map(|object| String::from_utf8(object.key.as_bytes().to_vec()));
        Ok(names.filter_map(Result::ok).collect())
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn remove(&self, name: &str) -> Result<(), ShelfError> {
        self.client.delete(&self.bucket, &Self::key(name)?).await?;
        Ok(())
    }
}

/// The name of one file of a drill.
pub fn drill_file(drill: &str, file: &str) -> String {
    format!("drills/{drill}/{file}")
}

//! The storing half of a backup: seal on worker threads, gather into packs,
//! upload a few at a time, and index what is durable.

use std::io::Write;
use std::sync::Arc;

use coffer_model::Entropy;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::chunk::{ChunkId, ChunkSealer};
use super::index::{INDEX_CHUNKS, IndexRecord, PackIndex};
use super::ingest::{Batch, Message};
use super::keyring::Keyring;
use super::pack::{OpenPack, PackKind};
use super::repository::{ReadError, Repository};
use super::sealing::SealingError;
use super::story::{BackupError, BackupOptions};

/// What was sent to the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

struct SealedBatch {
    kind: PackKind,
    chunks: Vec<(ChunkId, Vec<u8>)>,
}

/// Its state: everything that is in memory at a time.
pub(crate) struct Storing<'a> {
    repository: &'a Repository,
    entropy: Arc<dyn Entropy>,
    sealing_limit: usize,
    upload_limit: usize,
    data: OpenPack,
    entries: OpenPack,
    sealing: JoinSet<Result<SealedBatch, SealingError>>,
    uploads: JoinSet<Result<(PackIndex, u64), BackupError>>,
    record: IndexRecord,
    record_chunks: usize,
    stored: Stored,
}

impl From<JoinError> for BackupError {
    fn from(_: JoinError) -> Self {
        Self::Worker
    }
}

impl<'a> Storing<'a> {
    /// With nothing in hand.
    pub(crate) fn new(
        repository: &'a Repository,
        options: &BackupOptions,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            repository,
            entropy,
            sealing_limit: options.sealing_threads.max(1),
            upload_limit: options.uploads.max(1),
            data: OpenPack::new(),
            entries: OpenPack::new(),
            sealing: JoinSet::new(),
            uploads: JoinSet::new(),
            record: IndexRecord::default(),
            record_chunks: 0,
            stored: Stored::default(),
        }
    }

    /// Stores all that comes; returns when every pack and index is durable.
    pub(crate) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        manifest: &mut (dyn Write + Send),
    ) -> Result<Stored, BackupError> {
        let mut open = true;
        loop {
            // A full upload queue stops sealing, which stops reading.
            let room = self.sealing.len() < self.sealing_limit && self.uploads.len() < self.upload_limit;
            tokio::select! {
                Some(done) = self.uploads.join_next() => self.uploaded(done??).await?,
                Some(sealed) = self.sealing.join_next(), if self.uploads.len() < self.upload_limit => {
                    self.gather(sealed??)?;
                }
                message = messages.recv(), if open && room => match message {
                    Some(Message::Batch(batch)) => self.seal(batch),
                    Some(Message::Manifest(text)) => {
                        manifest.write_all(&text).map_err(BackupError::Manifest)?;
                    }
                    None => open = false,
                },
                else => break,
            }
        }
        manifest.flush().map_err(BackupError::Manifest)?;
        self.close(PackKind::Data);
        self.close(PackKind::Entries);
        while let Some(done) = self.uploads.join_next().await {
            self.uploaded(done??).await?;
        }
        self.write_index().await?;
        Ok(self.stored)
    }

    fn seal(&mut self, batch: Batch) {
        let (keyring, entropy) = (Arc::clone(&self.repository.keyring), Arc::clone(&self.entropy));
        self.sealing.spawn_blocking(move || seal_batch(&keyring, &*entropy, &batch));
    }

    fn gather(&mut self, batch: SealedBatch) -> Result<(), BackupError> {
        for (id, sealed) in batch.chunks {
            let pack = self.pack(batch.kind);
            pack.push(id, &sealed)?;
            if pack.is_full() {
                self.close(batch.kind);
            }
        }
        Ok(())
    }

    fn pack(&mut self, kind: PackKind) -> &mut OpenPack {
        match kind {
            PackKind::Data => &mut self.data,
            PackKind::Entries => &mut self.entries,
        }
    }

    /// Sends what is in a pack on its way.
    fn close(&mut self, kind: PackKind) {
        let pack = std::mem::replace(self.pack(kind), OpenPack::new());
        if pack.is_empty() {
            return;
        }
        let (keyring, entropy) = (Arc::clone(&self.repository.keyring), Arc::clone(&self.entropy));
        let store = Arc::clone(&self.repository.store);
        self.uploads.spawn(async move {
            let closed = spawn_blocking(move || pack.close(&keyring, &*entropy)).await??;
            let bytes = u64::try_from(closed.body.len()).unwrap_or(u64::MAX);
            store.put(&closed.index.blob(), closed.body).await.map_err(ReadError::Store)?;
            Ok((closed.index, bytes))
        });
    }

    async fn uploaded(&mut self, (pack, bytes): (PackIndex, u64)) -> Result<(), BackupError> {
        self.stored.packs += 1;
        self.stored.bytes += bytes;
        self.record_chunks += pack.chunks.len();
        self.record.packs.push(pack);
        if self.record_chunks >= INDEX_CHUNKS { self.write_index().await } else { Ok(()) }
    }

    async fn write_index(&mut self) -> Result<(), BackupError> {
        if !self.record.packs.is_empty() {
            let record = std::mem::take(&mut self.record);
            self.record_chunks = 0;
            self.stored.bytes += self.repository.put_index(&record, &*self.entropy).await?;
        }
        Ok(())
    }
}

fn seal_batch(keyring: &Keyring, entropy: &dyn Entropy, batch: &Batch) -> Result<SealedBatch, SealingError> {
    let mut sealer = ChunkSealer::new()?;
    let mut chunks = Vec::with_capacity(batch.chunks.len());
    let mut rest = batch.data.as_slice();
    for (id, length) in &batch.chunks {
        let (data, tail) = rest.split_at_checked(*length).ok_or(SealingError::Encode)?;
        chunks.push((*id, sealer.seal(&keyring.chunks, entropy, id, data)?));
        rest = tail;
    }
    Ok(SealedBatch { kind: batch.kind, chunks })
}

//! Records in a bucket: claimed by a conditional put, listed by empty objects
//! whose names are the lines, read back with their digests.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use coffer_model::RecordId;
use coffer_regions::{ListedRecord, Record, RecordKind, ScrubCursor, ScrubFinding, ScrubStep, SiteError};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::PutPayload;

use super::form::{HEAD_BYTES, Head, parse_id, parse_line};
use super::objects::Created;
use super::{Counts, Shared};

/// Objects of one page of a listing that a scrub goes through: what a bucket
/// gives at once.
const SCRUB_PAGE: usize = 1000;

/// Requests of one call that are on the way at the same time.
const AT_ONCE: usize = 16;
/// Lines that are counted at a time.
const COUNT_PAGE: usize = 10_000;

/// The body's place in the object of a record.
const BODY_AT: u64 = HEAD_BYTES as u64;

fn line_of(head: &Head) -> ListedRecord {
    ListedRecord { id: head.id, kind: head.kind, body_bytes: head.body_bytes, digest: head.digest }
}

impl Shared {
    /// The head of a record; `Damaged` where it cannot be read.
    pub(super) async fn head(&self, id: RecordId) -> Result<Head, SiteError> {
        let read = self.objects.read_range(&self.names.record(id), 0..BODY_AT).await;
        let bytes = read.map_err(|error| match error {
            SiteError::OverLimit => SiteError::Damaged,
            error => error,
        })?;
        Head::parse(&bytes, id).map_err(|_| SiteError::Damaged)
    }

    pub(super) async fn read_record(&self, id: RecordId) -> Result<Record, SiteError> {
        let read = self.read_unnoted(id).await;
        match &read {
            Err(SiteError::Damaged) => self.note_damage(id),
            Ok(_) => self.note_mended(id),
            Err(_) => {}
        }
        read
    }

    async fn read_unnoted(&self, id: RecordId) -> Result<Record, SiteError> {
        let limit = HEAD_BYTES + Record::BODY_BYTES_MAX;
        let object = self.objects.read(&self.names.record(id), limit).await?.bytes;
        let head = Head::parse(&object, id).map_err(|_| SiteError::Damaged)?;
        let body = if head.apart {
            let read = self.objects.read(&self.names.body(id, head.digest), Record::BODY_BYTES_MAX).await;
            match read {
                Ok(found) => found.bytes,
                // The record is there, its body is gone.
                Err(SiteError::Missing) => return Err(SiteError::Damaged),
                Err(error) => return Err(error),
            }
        } else {
            object.slice(HEAD_BYTES..)
        };
        head.record(body).map_err(|_| SiteError::Damaged)
    }

    pub(super) async fn read_part(&self, id: RecordId, start: u32, end: u32) -> Result<Bytes, SiteError> {
        let head = self.head(id).await?;
        if start > end || end > head.body_bytes {
            return Err(SiteError::OverLimit);
        }
        if start == end {
            return Ok(Bytes::new());
        }
        let (path, before) =
            if head.apart { (self.names.body(id, head.digest), 0) } else { (self.names.record(id), BODY_AT) };
        let read = self.objects.read_range(&path, before + u64::from(start)..before + u64::from(end)).await;
        read.map_err(|error| match error {
            // Its head says that there is more.
            SiteError::OverLimit | SiteError::Missing => SiteError::Damaged,
            error => error,
        })
    }

    /// Stores records that differ in id. One that conflicts is found before
    /// the first is written, unless it comes at the same time.
    pub(super) async fn put_all(&self, records: &[Record]) -> Result<(), SiteError> {
        if records.len() > 1 {
            let checks = stream::iter(records.iter().cloned().map(|record| self.refuse_conflict(record)));
            checks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        let puts = stream::iter(records.iter().cloned().map(|record| self.put_one(record)));
        puts.buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn refuse_conflict(&self, record: Record) -> Result<(), SiteError> {
        match self.head(record.id()).await {
            Ok(head) if head.digest != record.digest() => Err(SiteError::Conflict),
            Ok(_) | Err(SiteError::Missing | SiteError::Damaged) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn put_one(&self, record: Record) -> Result<(), SiteError> {
        let apart = record.body().len() > self.objects.timing().apart_bytes;
        if apart {
            self.refuse_conflict(record.clone()).await?;
            self.objects
                .upload(&self.names.body(record.id(), record.digest()), record.body().clone())
                .await?;
        }
        let head = Head::of(&record, apart);
        let body = if apart { Bytes::new() } else { record.body().clone() };
        let object = || PutPayload::from_iter([head.encode(), body.clone()]);
        let path = self.names.record(record.id());
        let created = self.objects.create(&path, object()).await?;
        let line = self.names.line(record.kind(), &line_of(&head));
        let new = match created {
            Created::New => true,
            Created::Existed => {
                self.agree(&record, &head, &body).await?;
                // A crash may have come between claim and line: then it was not counted.
                self.objects.size(&line).await == Err(SiteError::Missing)
            }
        };
        // Only what is listed is acknowledged: a rebuild finds by listing.
        self.objects.overwrite(&line, Bytes::new()).await?;
        self.note_mended(record.id());
        if new {
            self.counted(|counts| counts.add(head.body_bytes));
        }
        Ok(())
    }

    /// The record that is already there must be this one, read back; a
    /// damaged copy of it is written anew.
    async fn agree(&self, record: &Record, head: &Head, body: &Bytes) -> Result<(), SiteError> {
        match self.read_record(record.id()).await {
            Ok(stored) if stored.digest() == record.digest() => Ok(()),
            Ok(_) => Err(SiteError::Conflict),
            Err(SiteError::Damaged) => {
                if self.head(record.id()).await.is_ok_and(|stored| stored.digest != record.digest()) {
                    return Err(SiteError::Conflict);
                }
                let object = [head.encode().as_ref(), body.as_ref()].concat();
                self.objects.overwrite(&self.names.record(record.id()), object.into()).await.map(drop)
            }
            // Removed meanwhile: whoever put it tries again.
            Err(SiteError::Missing) => Err(SiteError::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Removes a record: first its line, then its claim, then its body, so
    /// that what is listed is there. Whether it was there. A line without a
    /// record is removed as one: its put came late, after the record was removed.
    pub(super) async fn remove_record(&self, id: RecordId) -> Result<bool, SiteError> {
        let (head, there) = match self.head(id).await {
            Ok(head) => (Some(head), true),
            Err(SiteError::Damaged) => (None, true),
            Err(SiteError::Missing) => (None, false),
            Err(error) => return Err(error),
        };
        let lines = match &head {
            Some(head) => vec![line_of(head)],
            None => self.lines_of(id).await?,
        };
        let mut listed = Vec::new();
        for line in &lines {
            let name = self.names.line(line.kind, line);
            if self.objects.size(&name).await != Err(SiteError::Missing) {
                listed.push(line.body_bytes);
            }
            self.objects.remove(&name).await?;
        }
        if there {
            self.objects.remove(&self.names.record(id)).await?;
        }
        if let Some(head) = head.filter(|head| head.apart) {
            self.objects.remove(&self.names.body(id, head.digest)).await?;
        }
        self.note_mended(id);
        self.counted(|counts| listed.into_iter().for_each(|bytes| counts.take(bytes)));
        Ok(there || !lines.is_empty())
    }

    /// The lines of a record whose head cannot be read.
    async fn lines_of(&self, id: RecordId) -> Result<Vec<ListedRecord>, SiteError> {
        let mut lines = Vec::new();
        for kind in RecordKind::ALL {
            let mut before = *id.as_bytes();
            // Everything behind the id before this one; zero has none before it.
            let below = u128::from_be_bytes(before).checked_sub(1);
            let after = below.map(|below| {
                before = below.to_be_bytes();
                RecordId::from_bytes(before)
            });
            let first = self.list_lines(kind, after, 1).await?;
            lines.extend(first.into_iter().filter(|line| line.id == id));
        }
        Ok(lines)
    }

    pub(super) async fn list_lines(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let prefix = self.names.kind(kind);
        let mut lines: Vec<ListedRecord> = Vec::new();
        let mut from = after.map(|after| self.names.after(kind, after));
        while lines.len() < limit {
            let wanted = limit - lines.len();
            let page = self.objects.list(&prefix, from.as_ref(), wanted).await?;
            lines.extend(page.iter().filter_map(|object| parse_line(kind, &object.location)));
            match page.last() {
                // Names that are no lines were skipped: there may be more.
                Some(last) if page.len() == wanted => from = Some(last.location.clone()),
                _ => break,
            }
        }
        Ok(lines)
    }

    /// What is in the bucket; counted once, then kept by what is done here.
    pub(super) async fn count(&self) -> Result<Counts, SiteError> {
        let known = *self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(counts) = known {
            return Ok(counts);
        }
        let mut counts = Counts::default();
        for kind in RecordKind::ALL {
            let mut after = None;
            loop {
                let page = self.list_lines(kind, after, COUNT_PAGE).await?;
                page.iter().for_each(|line| counts.add(line.body_bytes));
                match page.last() {
                    Some(last) if page.len() == COUNT_PAGE => after = Some(last.id),
                    _ => break,
                }
            }
        }
        *self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(counts);
        Ok(counts)
    }

    /// Reads records in order of id, a bucket knows no older and newer; after
    /// the last of them the lines, of which each has its record.
    pub(super) async fn scrub_from(
        &self,
        from: Option<ScrubCursor>,
        bytes_max: u64,
    ) -> Result<ScrubStep, SiteError> {
        let (mut step, mut last) = (ScrubStep::default(), from);
        let mut after = from.map(|cursor| self.names.record(RecordId::from_bytes(cursor.0)));
        loop {
            let page = self.objects.list(&self.names.records(), after.as_ref(), SCRUB_PAGE).await?;
            for object in &page {
                if step.records > 0 && step.bytes >= bytes_max {
                    step.next = last;
                    return Ok(step);
                }
                let Some(id) = parse_id(&object.location) else { continue };
                self.scrub_one(RecordId::from_bytes(id), &mut step).await?;
                last = Some(ScrubCursor(id));
            }
            match page.last() {
                // Names that are no records were passed over: there may be more.
                Some(object) if page.len() == SCRUB_PAGE => after = Some(object.location.clone()),
                _ => break,
            }
        }
        self.scrub_lines(&mut step).await?;
        Ok(step)
    }

    /// Finds the lines that have no record: both listings, side by side.
    async fn scrub_lines(&self, step: &mut ScrubStep) -> Result<(), SiteError> {
        let mut kinds: Vec<Lines> = RecordKind::ALL.into_iter().map(Lines::of).collect();
        let mut after = None;
        loop {
            let page = self.objects.list(&self.names.records(), after.as_ref(), SCRUB_PAGE).await?;
            let ids = page.iter().filter_map(|object| parse_id(&object.location));
            let ids: BTreeSet<RecordId> = ids.map(RecordId::from_bytes).collect();
            after = page.last().filter(|_| page.len() == SCRUB_PAGE).map(|object| object.location.clone());
            let end = ids.last().copied();
            if after.is_some() && end.is_none() {
                continue;
            }
            for lines in &mut kinds {
                while let Some(line) = lines.next(self, end.filter(|_| after.is_some())).await? {
                    if !ids.contains(&line.id) {
                        self.look_for_record(lines.kind, &line, step).await?;
                    }
                }
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// A line whose record was not listed. A record has its line until just
    /// before it goes: one that was put or removed meanwhile has both, or neither.
    async fn look_for_record(
        &self,
        kind: RecordKind,
        line: &ListedRecord,
        step: &mut ScrubStep,
    ) -> Result<(), SiteError> {
        let name = self.names.line(kind, line);
        match self.head(line.id).await {
            Err(SiteError::Missing) if self.objects.size(&name).await.is_ok() => {
                let place = format!("{name}: no record");
                step.findings.push(ScrubFinding { record: Some(line.id), place });
                Ok(())
            }
            Ok(_) | Err(SiteError::Missing | SiteError::Damaged) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn scrub_one(&self, id: RecordId, step: &mut ScrubStep) -> Result<(), SiteError> {
        let mut finding = |place| step.findings.push(ScrubFinding { record: Some(id), place });
        match self.read_record(id).await {
            Ok(record) => {
                step.records += 1;
                step.bytes += record.body().len() as u64;
                let line = line_of(&Head::of(&record, false));
                let line = self.names.line(record.kind(), &line);
                // A put that is under way has its record, and not yet its line.
                if self.objects.size(&line).await == Err(SiteError::Missing) && self.head(id).await.is_ok() {
                    finding(format!("{line}: not listed"));
                }
            }
            Err(SiteError::Damaged) => {
                step.records += 1;
                finding(self.names.record(id).to_string());
            }
            // Removed meanwhile.
            Err(SiteError::Missing) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The lines of one kind, in order, a page at a time.
struct Lines {
    kind: RecordKind,
    page: VecDeque<ListedRecord>,
    after: Option<RecordId>,
    ended: bool,
}

impl Lines {
    fn of(kind: RecordKind) -> Self {
        Self { kind, page: VecDeque::new(), after: None, ended: false }
    }

    /// The next line, if it is not behind `end`.
    async fn next(
        &mut self,
        site: &Shared,
        end: Option<RecordId>,
    ) -> Result<Option<ListedRecord>, SiteError> {
        if self.page.is_empty() && !self.ended {
            self.page = site.list_lines(self.kind, self.after, SCRUB_PAGE).await?.into();
            self.ended = self.page.len() < SCRUB_PAGE;
            self.after = self.page.back().map(|line| line.id);
        }
        Ok(self.page.pop_front_if(|line| end.is_none_or(|end| line.id <= end)))
    }
}

impl Counts {
    fn add(&mut self, body_bytes: u32) {
        self.records += 1;
        self.bytes += BODY_AT + u64::from(body_bytes);
    }

    fn take(&mut self, body_bytes: u32) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(BODY_AT + u64::from(body_bytes));
    }
}

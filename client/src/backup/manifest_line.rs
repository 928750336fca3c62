//! The text form of one manifest entry: one JSON object on one line, keys in
//! alphabetical order, absent where empty.

use std::collections::BTreeMap;

use coffer_model::{Digest, escape_bytes, unescape_bytes};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Kind, Mtime, check_relative_path, extents_length};
use super::metadata::MODE_BITS;

/// The line, its fields in the order in which they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    data: Vec<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    device: Option<(u32, u32)>,
    gid: u32,
    kind: LineKind,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    link: Option<String>,
    mode: String,
    mtime: (i64, u32),
    path: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    target: Option<String>,
    uid: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    xattrs: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LineKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

const KINDS: [(Kind, LineKind); 7] = [
    (Kind::File, LineKind::File),
    (Kind::Directory, LineKind::Directory),
    (Kind::Symlink, LineKind::Symlink),
    (Kind::Fifo, LineKind::Fifo),
    (Kind::Socket, LineKind::Socket),
    (Kind::CharDevice, LineKind::CharDevice),
    (Kind::BlockDevice, LineKind::BlockDevice),
];

/// The line of an entry, without its line feed; none if serialisation fails,
/// which it does for no entry.
pub(crate) fn write_line(entry: &Entry) -> Option<Vec<u8>> {
    let (_, kind) = KINDS.into_iter().find(|(kind, _)| *kind == entry.kind)?;
    let line = Line {
        content: entry.content.map(|digest| digest.to_string()),
        data: entry.data.clone(),
        device: entry.device,
        gid: entry.gid,
        kind,
        link: entry.hard_link_to.as_deref().map(escape_bytes),
        mode: format!("{:04o}", entry.mode),
        mtime: (entry.mtime.seconds, entry.mtime.nanos),
        path: escape_bytes(&entry.path),
        size: (entry.kind == Kind::File).then_some(entry.size),
        target: entry.symlink_target.as_deref().map(escape_bytes),
        uid: entry.uid,
        xattrs: entry.xattrs.iter().map(|(name, value)| (escape_bytes(name), escape_bytes(value))).collect(),
    };
    serde_json::to_vec(&line).ok()
}

/// The entry of a line; none unless the line is exactly what [`write_line`]
/// makes of that entry.
pub(crate) fn read_line(text: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(text).ok()?;
    let optional = |text: Option<String>| text.map(|text| unescape_bytes(&text)).transpose().ok();
    let mut xattrs = BTreeMap::new();
    for (name, value) in &line.xattrs {
        xattrs.insert(unescape_bytes(name).ok()?, unescape_bytes(value).ok()?);
    }
    let kind_line = serde_json::to_string(&line.kind).ok()?;
    let kind = KINDS.into_iter().find(|(_, k)| serde_json::to_string(k).is_ok_and(|k| k == kind_line))?.0;
    let entry = Entry {
        path: unescape_bytes(&line.path).ok()?,
        kind,
        mode: u32::from_str_radix(&line.mode, 8).ok().filter(|mode| *mode <= MODE_BITS)?,
        uid: line.uid,
        gid: line.gid,
        mtime: Mtime { seconds: line.mtime.0, nanos: line.mtime.1 },
        xattrs,
        hard_link_to: optional(line.link)?,
        size: line.size.unwrap_or(0),
        data: line.data,
        content: match line.content {
            Some(text) => Some(parse_digest(&text)?),
            None => None,
        },
        symlink_target: optional(line.target)?,
        device: line.device,
    };
    (is_sound(&entry) && write_line(&entry).as_deref() == Some(text)).then_some(entry)
}

fn is_sound(entry: &Entry) -> bool {
    check_relative_path(&entry.path).is_ok()
        && entry.hard_link_to.as_deref().is_none_or(|path| check_relative_path(path).is_ok())
        && entry.mtime.nanos < 1_000_000_000
        && extents_length(&entry.data, entry.size).is_some()
        && entry.content.is_some() == (entry.kind == Kind::File)
        && entry.symlink_target.is_some() == (entry.kind == Kind::Symlink)
        && entry.device.is_some() == matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice)
}

fn parse_digest(text: &str) -> Option<Digest> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    Some(Digest(*hash.as_bytes()))
}

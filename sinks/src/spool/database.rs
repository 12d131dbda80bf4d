//! The file: an SQLite database in WAL mode with two tables, and what makes it ours.
//!
//! `blocks(first, n_entries, n_bytes, crc, data)`, the CRC being that of the three numbers before it, and one row of
//! `state(first, next, crc)`: the oldest entry not yet let go, and the next number at that time.
//! Called on the spool's thread. Must never write to a file that is not ours.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig, params};

use super::{
    SpoolError,
    block::{Block, crc_of},
    error,
};
use crate::delivery::Durability;

/// Bytes of a page. Fixed, as the first page is made anew when it is damaged.
const PAGE: u32 = 8192;
/// "EyWi": whose file it is (<https://www.sqlite.org/fileformat.html#application_id>).
const APPLICATION_ID: u32 = 0x4579_5769;
/// Version of the tables. In the file's `user_version` it stands in each of the four bytes, so that a flipped bit is not
/// taken for a newer version.
const VERSION: u8 = 1;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What follows it in the first page: [`PAGE`], twice "WAL", and what is the same in every database.
const LAYOUT: [u8; 8] = [0x20, 0, 2, 2, 0, 64, 32, 32];
/// So many flipped bits in what makes the file ours are damage; more, and it is another's.
const MOST_FLIPPED: u32 = 3;
/// A reader holds up a writer for moments only.
const PATIENCE: Duration = Duration::from_secs(5);

const SCHEMA: [(&str, &str); 2] = [
    (
        "blocks",
        "CREATE TABLE blocks (first INTEGER PRIMARY KEY, n_entries INTEGER, n_bytes INTEGER, crc INTEGER, data BLOB)",
    ),
    ("state", "CREATE TABLE state (id INTEGER PRIMARY KEY, first INTEGER, next INTEGER, crc INTEGER)"),
];

/// What is at the path.
pub(super) enum Found {
    /// Nothing, or an empty file.
    Nothing,
    /// A spool, sound so far.
    Spool,
    /// A spool whose first page is damaged.
    Broken,
}

/// Looks whether the file is ours, without touching it.
pub(super) fn look(path: &Path) -> Result<Found, SpoolError> {
    let mut header = [0; 100];
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(cause) => return Err(error::io("open", path)(cause)),
    };
    let n_bytes = file.metadata().map_err(error::io("read", path))?.len();
    if n_bytes == 0 {
        return Ok(Found::Nothing);
    }
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(cause) => return Err(error::io("read", path)(cause)),
    }
    let not_ours = |problem: &str| SpoolError::NotOurs { path: path.to_owned(), problem: problem.to_owned() };
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // A disk that lost the page gives zeros, and nobody else's file begins so.
    if header == [0; 100] {
        return Ok(Found::Broken);
    }
    let flips = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    let n_flipped = flips(&header[..16], MAGIC) + (number(68) ^ APPLICATION_ID).count_ones();
    if n_flipped > MOST_FLIPPED {
        return Err(not_ours(match &header[..16] == MAGIC {
            true => "is a database of another program",
            false => "is no spool",
        }));
    }
    let versions = number(60).to_be_bytes();
    let version = versions.into_iter().max_by_key(|v| versions.iter().filter(|w| *w == v).count());
    if let Some(version @ VERSION..) = version
        && version != VERSION
    {
        return Err(not_ours(&format!("was written by a newer version of eyewitness (format {version})")));
    }
    // A wrong one of these makes SQLite refuse to write, or to read.
    let is_sound = n_flipped == 0 && versions == [VERSION; 4] && header[16..24] == LAYOUT;
    Ok(if is_sound { Found::Spool } else { Found::Broken })
}

/// The path with something after its name: the WAL of `spool.db` is `spool.db-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Size of a file; 0 when there is none.
pub(super) fn n_bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Deletes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(error::io("delete", path)(cause)),
        _ => Ok(()),
    }
}

/// Makes a database at `path` (deleting what is there), lets `fill` write into it, and brings it to the disk. What a
/// crash leaves of it is not usable, so `path` is one to be renamed.
pub(super) fn create<T>(path: &Path, fill: impl FnOnce(&Connection) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(path, suffix))?;
    }
    let build = || {
        let fail = || error::database("create", path);
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
            .map_err(fail())?;
        let version = u32::from_be_bytes([VERSION; 4]);
        harden(&db).map_err(fail())?;
        db.execute_batch(&format!(
            "PRAGMA page_size = {PAGE}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; BEGIN; {}; {};",
            SCHEMA[0].1, SCHEMA[1].1
        ))
        .map_err(fail())?;
        let filled = fill(&db)?;
        db.execute_batch("COMMIT; PRAGMA journal_mode = WAL").map_err(fail())?;
        db.close().map_err(|(_, cause)| fail()(cause))?;
        File::open(path).and_then(|file| file.sync_all()).map_err(error::io("sync", path))?;
        Ok(filled)
    };
    let built = build();
    if built.is_err() {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _the_first_error_is_told = remove(&beside(path, suffix));
        }
    }
    built
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), SpoolError> {
    if cfg!(unix) {
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(error::io("sync", directory))?;
    }
    Ok(())
}

/// Opens the database to write.
pub(super) fn connect(path: &Path, durability: Durability) -> Result<Connection, SpoolError> {
    let fail = || error::database("open", path);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail())?;
    harden(&db).map_err(fail())?;
    // NORMAL: the WAL is on the disk before its pages go to the database, so no crash of the machine breaks the file.
    let synchronous = if durability == Durability::Disk { "FULL" } else { "NORMAL" };
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fail())?;
    if mode != "wal" {
        let problem = "lies on a file system that cannot share memory (such as NFS)".to_owned();
        return Err(SpoolError::NotOurs { path: path.to_owned(), problem });
    }
    db.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 0"
    ))
    .map_err(fail())?;
    check_schema(&db, path)?;
    Ok(db)
}

/// Opens the database to read. `frozen`: nobody writes, there is no WAL, and nothing beside the file may be made.
pub(super) fn connect_read_only(path: &Path, frozen: bool) -> Result<Connection, SpoolError> {
    let fail = || error::database("open", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = if frozen {
        let mut uri = String::from("file:");
        for &byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => uri.push(char::from(byte)),
                _ => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        uri.push_str("?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(fail())?
    } else {
        Connection::open_with_flags(path, flags).map_err(fail())?
    };
    harden(&db).map_err(fail())?;
    leave_wal(&db).map_err(fail())?;
    check_schema(&db, path)?;
    Ok(db)
}

/// Settings for a damaged file: it is only read.
pub(super) fn prepare_for_salvage(db: &Connection) -> rusqlite::Result<()> {
    harden(db)?;
    leave_wal(db)
}

/// Closing must not move the WAL into the database.
pub(super) fn leave_wal(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
}

/// The file may be hostile: nothing in it but two tables is used (<https://www.sqlite.org/security.html>).
pub(crate) fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(PATIENCE)?;
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        db.set_db_config(setting, on)?;
    }
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048")
}

fn check_schema(db: &Connection, path: &Path) -> Result<(), SpoolError> {
    let fail = || error::database("read", path);
    let read = || -> rusqlite::Result<Vec<(String, u32, String)>> {
        let mut query = db.prepare("SELECT name, rootpage, sql FROM sqlite_schema ORDER BY rootpage LIMIT 3")?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    };
    let found = read().map_err(fail())?;
    let page_size: u32 = db.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(fail())?;
    let is_ours = found.len() == SCHEMA.len()
        && page_size == PAGE
        && found
            .iter()
            .zip(2..)
            .zip(SCHEMA)
            .all(|((found, root), (name, sql))| (found.0.as_str(), found.1, found.2.as_str()) == (name, root, sql));
    if is_ours { Ok(()) } else { Err(SpoolError::damaged("read", path, "its tables are not those of a spool")) }
}

/// Puts a sound first page into a damaged file, which in every spool is the same but for some counts. Pages that were
/// free then belong to nobody: the file is good for reading only.
pub(super) fn replace_first_page(path: &Path, scratch: &Path) -> Result<(), SpoolError> {
    create(scratch, |_| Ok(()))?;
    let mut page = vec![0; PAGE as usize];
    let replace = || {
        File::open(scratch)?.read_exact(&mut page)?;
        let mut file = File::options().read(true).write(true).open(path)?;
        let n_pages = u32::try_from(file.metadata()?.len() / u64::from(PAGE)).unwrap_or(u32::MAX);
        // Offsets 24 and 92: equal counters make the count of pages at 28 valid. Offset 32: no free pages.
        page.copy_within(24..28, 92);
        page[28..32].copy_from_slice(&n_pages.to_be_bytes());
        page[32..40].fill(0);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&page)
    };
    let mut replace = replace;
    let replaced = replace().map_err(error::io("repair", path));
    remove(scratch)?;
    replaced
}

/// The row of `state`: the oldest entry not let go, and the next number when it was written.
pub(super) fn state(db: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    let row: Option<(i64, i64, i64)> = db
        .query_row("SELECT first, next, crc FROM state WHERE id = 0", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(row.and_then(|(first, next, crc)| {
        let (first, next) = (u64::try_from(first).ok()?, u64::try_from(next).ok()?);
        (i64::from(crc_of(&[first, next])) == crc && first <= next && next < 1 << 62).then_some((first, next))
    }))
}

/// Writes the row of `state`.
pub(super) fn set_state(db: &Connection, first: u64, next: u64) -> rusqlite::Result<()> {
    let crc = crc_of(&[first, next]);
    let mut replace = db.prepare_cached("INSERT OR REPLACE INTO state VALUES (0, ?1, ?2, ?3)")?;
    replace.execute(params![signed(first), signed(next), crc])?;
    Ok(())
}

/// Writes a block.
pub(super) fn insert(db: &Connection, block: &Block, data: &[u8]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![signed(block.first), signed(block.n_entries), signed(block.n_bytes), block.crc(), data])?;
    Ok(())
}

/// Deletes the blocks that hold nothing from `first` on; all of them when `first` is `next`.
pub(super) fn delete_below(db: &Connection, first: u64, next: u64) -> rusqlite::Result<()> {
    if first == next {
        db.execute("DELETE FROM blocks", [])?;
    } else {
        const DELETE: &str = "DELETE FROM blocks WHERE first < (SELECT max(first) FROM blocks WHERE first <= ?1)";
        db.prepare_cached(DELETE)?.execute([signed(first)])?;
    }
    set_state(db, first, next)
}

/// SQLite's integers are signed; no number of ours comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Columns of a row that make a block.
pub(super) const COLUMNS: &str = "first, n_entries, n_bytes, crc";

/// A block from [`COLUMNS`]: its key, and its figures when they are sound.
pub(super) fn block(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Option<Block>)> {
    let key: i64 = row.get(0)?;
    let number = |at: usize| row.get_ref(at).ok()?.as_i64().ok().and_then(|n| u64::try_from(n).ok());
    let sound = || {
        let block = Block { first: u64::try_from(key).ok()?, n_entries: number(1)?, n_bytes: number(2)? };
        (block.is_plausible() && u64::from(block.crc()) == number(3)?).then_some(block)
    };
    Ok((key, sound()))
}

/// Moves the WAL's pages into the database and empties it, as far as readers allow.
pub(super) fn checkpoint(db: &Connection) -> rusqlite::Result<()> {
    // Whoever reads just now is not waited for: the next time will do.
    db.busy_timeout(Duration::ZERO)?;
    let outcome = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    db.busy_timeout(PATIENCE)?;
    outcome
}
